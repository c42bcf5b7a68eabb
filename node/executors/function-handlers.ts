/** The handlers of the user's modules: their exports by name. */
import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import type { FunctionHandler } from './handler.ts';
import { describeThrown } from './thrown.ts';

export type Handlers = ReadonlyMap<string, FunctionHandler>;

/** @throws Error that names the file which cannot be used, and why */
export async function loadHandlers(files: readonly string[]): Promise<Handlers> {
  const handlers = new Map<string, FunctionHandler>();
  const fileOf = new Map<string, string>();
  for (const file of files) {
    for (const [name, handler] of await handlersOf(file)) {
      if (handlers.has(name)) throw new Error(`${file}: exports "${name}", which ${fileOf.get(name)} exports too`);
      handlers.set(name, handler);
      fileOf.set(name, file);
    }
  }
  return handlers;
}

async function handlersOf(file: string): Promise<[string, FunctionHandler][]> {
  const found = Object.entries(await importModule(file)).filter(
    ([name, value]) => name !== 'default' && isHandler(value),
  );
  if (found.length === 0) throw new Error(`${file}: exports no function by name (a default export has none)`);
  return found as [string, FunctionHandler][];
}

async function importModule(file: string): Promise<Record<string, unknown>> {
  try {
    return await import(pathToFileURL(file).href);
  } catch (error) {
    if (!existsSync(file)) throw new Error(`${file}: there is no such file`, { cause: error });
    const { message, details } = describeThrown(error);
    const name = details['error_name'];
    throw new Error(`${file}: ${typeof name === 'string' ? `${name}: ` : ''}${message}`, { cause: error });
  }
}

/** A class is a function that cannot be called. */
function isHandler(value: unknown): boolean {
  return typeof value === 'function' && !/^class\b/.test(Function.prototype.toString.call(value));
}
