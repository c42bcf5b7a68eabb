/** Loads one source file of the project with a mutation in it, in this thread. Product code knows nothing of it. */
import { registerHooks } from 'node:module';
import type { Mutation } from './mutations.ts';

/** Has to be called before the file is imported. @throws when `find` is not there exactly once, as the file is loaded */
export function mutate(mutation: Mutation): void {
  const url = new URL(`../../${mutation.file}`, import.meta.url).href;
  registerHooks({
    load(loaded, context, nextLoad) {
      const module = nextLoad(loaded, context);
      if (loaded !== url) return module;
      return { ...module, source: mutated(mutation, String(module.source)) };
    },
  });
}

/** A source with a mutation in it. @throws when `find` is not there exactly once */
export function mutated({ name, file, find, replace }: Mutation, source: string): string {
  const parts = source.split(find);
  if (parts.length === 2) return parts.join(replace);
  throw new Error(`mutation "${name}": its text is in ${file} ${parts.length - 1} times, not once`);
}
