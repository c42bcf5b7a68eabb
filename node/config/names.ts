/** What a setting in a file is meant to be when its name is known elsewhere: `slots` is `worker.slots` there. */
import { nearest } from '../../dag/nearest.ts';

interface Named {
  path: string;
  flag: string;
  env: string;
}

const UNKNOWN = 'is not a known field';

/**
 * The message about an unknown field of a file, which names what is meant: a field of another level, one by the name of
 * its flag or variable, or the nearest of all these.
 *
 * @param path of the field that was found, e.g. `labels` or `worker.allow_shell`
 * @param message what the schema says, which knows the names of one level alone
 * @param options every setting, by its field, flag and variable
 */
export function unknownField(path: string, message: string, options: readonly Named[]): string {
  if (!message.startsWith(UNKNOWN)) return message;
  const name = snake(path.split('.').at(-1)!);
  const meant = new Map<string, string[]>();
  for (const option of options) {
    if (option.path === path) continue;
    for (const spelled of new Set(spellings(option))) meant.set(spelled, [...(meant.get(spelled) ?? []), option.path]);
  }
  const exact = meant.get(name);
  if (exact !== undefined) return `${UNKNOWN} (did you mean ${exact.map((each) => `"${each}"`).join(' or ')}?)`;
  if (message.includes('did you mean')) return message;
  const near = nearest(name, [...meant.keys()]);
  return near === undefined ? message : `${UNKNOWN} (did you mean "${meant.get(near)!.join('" or "')}"?)`;
}

/** `worker.slots`, `slots`, and as the flag and the variable have it. */
function spellings({ path, flag, env }: Named): string[] {
  const word = snake(flag.split(' ')[0]!.replace(/^--(no-)?/, ''));
  const variable = env.replace(/^FLOWMESH_/, '').toLowerCase();
  return [path.split('.').at(-1)!, path.replaceAll('.', '_'), word, variable];
}

function snake(name: string): string {
  return name
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .replaceAll('-', '_')
    .toLowerCase();
}
