/** Loads one source file of the project with a mutation in it, in this thread. Product code knows nothing of it. */
import { registerHooks } from 'node:module';
import type { Mutation } from './mutations.ts';

/** Has to be called before the file is imported. @throws when `find` is not there exactly once, as the file is loaded */
export function mutate({ name, file, find, replace }: Mutation): void {
  const url = new URL(`../../${file}`, import.meta.url).href;
  registerHooks({
    load(loaded, context, nextLoad) {
      const module = nextLoad(loaded, context);
      if (loaded !== url) return module;
      const parts = String(module.source).split(find);
      if (parts.length !== 2) {
        throw new Error(`mutation "${name}": its text is in ${file} ${parts.length - 1} times, not once`);
      }
      return { ...module, source: parts.join(replace) };
    },
  });
}
