/**
 * Which commands the `shell` action may start here, and which file that is. The allow-list names commands, so what
 * a name means is decided by the peer alone: it is looked up in the peer's own PATH, and a step may set only variables
 * that the peer names, since so many make an allowed program run other code (PATH, LD_PRELOAD, BASH_FUNC_x%%,
 * TAR_OPTIONS, LESSOPEN, HOME with its dot files). With `*` every command may run and nothing of this applies.
 *
 * This is a policy about what is started, not a sandbox: an allowed `bash` or `find -exec` runs everything.
 */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';
import { FlowmeshError } from '../../dag/errors.ts';
import { isNamed } from '../processes/environment.ts';
import { ActionNotAllowedError } from './errors.ts';

/** The peer's `shell`: see `node/config/settings.ts`. */
export interface ShellPolicy {
  /** Commands, by name or absolute path; `*` is any; empty: none. */
  allow: string[];
  /** Variables that a step may set, names or `PREFIX_*`. */
  step_env: string[];
}

/** The command is not on this peer. Not retryable: require a label that says which peers have it. */
export class CommandNotFoundError extends FlowmeshError {
  constructor(command: string, cause?: unknown) {
    super(
      'COMMAND_NOT_FOUND',
      `the command "${command}" was not found on this peer; install it, or give the peers that have it a label and require that`,
      { details: { command }, cause },
    );
  }
}

/**
 * @param command the first word of the step's command
 * @param env the variables the step sets
 * @returns the file to start
 * @throws ActionNotAllowedError, CommandNotFoundError
 */
export async function resolveCommand(
  command: string,
  env: Record<string, string>,
  { allow, step_env }: ShellPolicy,
): Promise<string> {
  if (allow.includes('*')) return isBareName(command) ? await findInPath(command) : command;
  if (!allow.includes(command) || !(isBareName(command) || isAbsolute(command))) {
    const runs = allow.length === 0 ? 'no shell commands' : `only ${allow.join(', ')}`;
    throw new ActionNotAllowedError(
      `this peer runs ${runs}, not "${command}"; start it with --allow-shell ${command} (setting shell.allow; '*' for every command)`,
      { command },
    );
  }
  const refused = Object.keys(env).filter((name) => !isNamed(name, step_env));
  if (refused.length > 0) {
    const settable = step_env.length === 0 ? 'no variables' : `only ${step_env.join(', ')}`;
    throw new ActionNotAllowedError(
      `env sets ${refused.join(', ')}, but steps may set ${settable} here, because a variable can make an allowed command run another one; start this peer with --step-env ${refused.join(' ')} (setting shell.step_env) if it may`,
      { command, variables: refused },
    );
  }
  return isBareName(command) ? await findInPath(command) : command;
}

function isBareName(command: string): boolean {
  return !/[/\\]/.test(command);
}

async function findInPath(name: string): Promise<string> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    // A relative folder would mean another file wherever the step's `cwd` is.
    if (!isAbsolute(folder)) continue;
    const file = join(folder, name);
    if (await isExecutable(file)) return file;
  }
  throw new CommandNotFoundError(name);
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    // Not there or not for us: the next folder may have it.
    return false;
  }
}
