/**
 * The settings of one peer from where they are given, resolved once: flag > environment `FLOWMESH_…` >
 * environment by common names (`common-variables.ts`) > file > default.
 *
 *   const settings = resolveSettings({ flags: { 'http.port': '7700' }, env: process.env, file: undefined });
 */
import { dirname, resolve } from 'node:path';
import { FlowmeshError } from '../../dag/errors.ts';
import { describeProblems } from '../../dag/schema.ts';
import { commonSettings, switchWord } from './common-variables.ts';
import { unknownField } from './names.ts';
import { flagName, OPTIONS, type Option, SECRET_VARIABLES } from './options.ts';
import { openHttpProblem, type Settings, type SettingsInput, settingsSchema } from './settings.ts';

/** A setting is wrong; the message names where it was given, what is allowed, and the nearest allowed value. */
export class InvalidConfigError extends FlowmeshError {
  constructor(problems: ConfigProblem[]) {
    const lines = problems.map((problem) => `${problem.source}: ${problem.message}`);
    super(
      'INVALID_CONFIG',
      lines.length === 1 ? lines[0]! : `${lines.length} settings are wrong:\n${lines.join('\n')}`,
      {
        details: { problems: problems.map((problem) => ({ ...problem })) },
      },
    );
  }
}

export interface ConfigProblem {
  /** `--http-port 70000`, `FLOWMESH_HTTP_PORT=70000` or `bootstrap.json, http.port`. */
  source: string;
  message: string;
}

/** Only `--allow-shell` may stand alone, so that this and not the parser answers. */
const NAMES_NOTHING =
  "names no command; write --allow-shell git wc for these two, or --allow-shell '*' (in quotes) for every one";

export interface Sources {
  /** By option path; text as typed, a list of texts, or a boolean. Undefined: not given. */
  flags: Record<string, string | string[] | boolean | undefined>;
  env: Record<string, string | undefined>;
  /** The parsed mesh file and where it was read. */
  file: { path: string; value: unknown } | undefined;
  /** Relative paths of flags and environment are relative to this folder; those of a file to the file's own. */
  cwd?: string;
}

/**
 * Merges the sources and checks each on its own, so that a problem names the one it came from.
 *
 * @throws InvalidConfigError naming every wrong setting with its source
 */
export function resolveSettings(sources: Sources): Settings {
  const cwd = sources.cwd ?? process.cwd();
  const problems: ConfigProblem[] = [];
  const merged: Record<string, unknown> = {};

  if (sources.file !== undefined) {
    const { path } = sources.file;
    const value = normalized(sources.file.value);
    const checked = settingsSchema.safeParse(value);
    if (checked.success) mergeInto(merged, absolutePaths(value as SettingsInput, dirname(path)));
    else {
      for (const problem of describeProblems(checked.error, settingsSchema, value)) {
        const message = unknownField(problem.path, problem.message, OPTIONS);
        problems.push({ source: problem.path === '' ? path : `${path}, ${problem.path}`, message });
      }
    }
  }
  let hostFrom = sources.file === undefined ? undefined : `${sources.file.path}, http.host`;
  const common = commonSettings(sources.env);
  problems.push(...common.problems);
  for (const { option, raw, source } of [
    ...common.settings.map((each) => ({ ...each, option: OPTIONS.find(({ path }) => path === each.path)! })),
    ...OPTIONS.map((option) => fromEnvironment(option, sources.env)),
    ...OPTIONS.map((option) => fromFlags(option, sources.flags)),
  ]) {
    if (raw === undefined) continue;
    if (raw === true && option.kind === 'list') {
      problems.push({ source, message: NAMES_NOTHING });
      continue;
    }
    if (option.path === 'http.host') hostFrom = source;
    const typed = typedValue(option, raw);
    const value = normalized(nest(option.path, typed));
    const checked = settingsSchema.safeParse(value);
    if (checked.success) mergeInto(merged, absolutePaths(value as SettingsInput, cwd));
    else {
      for (const problem of describeProblems(checked.error, settingsSchema, value)) {
        const item = /\[(\d+)\]$/.exec(problem.path)?.[1];
        const which = item !== undefined && Array.isArray(typed) && typed.length > 1 ? `${typed[Number(item)]} ` : '';
        problems.push({ source, message: which + problem.message });
      }
    }
  }
  if (isObject(merged['auth'])) {
    for (const { env, path } of SECRET_VARIABLES) {
      const value = sources.env[env]?.trim();
      if (value) mergeInto(merged, nest(path, value));
    }
  }
  if (problems.length > 0) throw new InvalidConfigError(problems);
  const settings = settingsSchema.safeParse(merged);
  // What each source says is right: what is wrong is how they go together, or a secret of the environment.
  if (!settings.success) {
    throw new InvalidConfigError(
      describeProblems(settings.error, settingsSchema, merged).map(({ path, message }) => {
        const variable = SECRET_VARIABLES.find((each) => each.path === path && sources.env[each.env] !== undefined);
        return { source: variable?.env ?? path, message };
      }),
    );
  }
  const problem = pairProblem(settings.data) ?? openProblem(settings.data, hostFrom);
  if (problem !== undefined) throw new InvalidConfigError([problem]);
  return settings.data;
}

/** Each source may give one of the two: together they have both. */
function pairProblem({ http }: Settings): ConfigProblem | undefined {
  const { cert, key } = http?.tls ?? {};
  if ((cert === undefined) === (key === undefined)) return undefined;
  const [given, missing] = cert === undefined ? ['key', 'cert'] : ['cert', 'key'];
  return { source: `http.tls.${given}`, message: `HTTPS needs http.tls.${missing} (--tls-${missing}), too` };
}

/** One source may open the door, and another one have callers asked. */
function openProblem(settings: Settings, source: string | undefined): ConfigProblem | undefined {
  const message = openHttpProblem(settings);
  return message === null ? undefined : { source: source ?? 'http.host', message };
}

interface Given {
  option: Option;
  raw: string | string[] | boolean | undefined;
  /** As it was given: `FLOWMESH_HTTP_PORT=7700`. */
  source: string;
}

/** An empty variable counts as not set: that is how one is unset in a compose file or a unit. */
function fromEnvironment(option: Option, env: Sources['env']): Given {
  const raw = env[option.env]?.trim() || undefined;
  return { option, raw, source: `${option.env}=${raw}` };
}

function fromFlags(option: Option, flags: Sources['flags']): Given {
  const raw = flags[option.path];
  const words = typeof raw === 'boolean' ? [] : [raw ?? []].flat();
  return { option, raw, source: [flagName(option), ...words].join(' ') };
}

/** Text as the option's kind; what does not fit stays text, so that the schema names the problem. */
function typedValue(option: Option, raw: string | string[] | boolean): unknown {
  if (option.kind === 'list') {
    return typeof raw === 'boolean'
      ? raw
      : [raw].flat().flatMap((words) => words.split(',').map((word) => word.trim()));
  }
  if (typeof raw !== 'string') return raw;
  if (option.kind === 'number') return /^[+-]?\d+(\.\d+)?$/.test(raw) ? Number(raw) : raw;
  return option.kind === 'boolean' ? (switchWord(raw) ?? raw) : raw;
}

/** `http: false` and `http: true` say the same as `null` and `{}`, and so it is with `auth`. */
function normalized(value: unknown): unknown {
  if (!isObject(value)) return structuredClone(value);
  const copy = structuredClone(value);
  for (const name of ['http', 'auth']) if (typeof copy[name] === 'boolean') copy[name] = copy[name] ? {} : null;
  return copy;
}

function nest(path: string, value: unknown): Record<string, unknown> {
  return path
    .split('.')
    .reverse()
    .reduce<unknown>((inner, key) => ({ [key]: inner }), value) as Record<string, unknown>;
}

/** Objects field by field, everything else (lists too) replaced by the stronger source. */
function mergeInto(target: Record<string, unknown>, stronger: Record<string, unknown>): void {
  for (const [key, value] of Object.entries(stronger)) {
    const below = target[key];
    if (isObject(value) && isObject(below)) mergeInto(below, value);
    else target[key] = value;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function absolutePaths(settings: SettingsInput, base: string): Record<string, unknown> {
  const tls = settings.http?.tls;
  if (tls?.cert !== undefined) tls.cert = resolve(base, tls.cert);
  if (tls?.key !== undefined) tls.key = resolve(base, tls.key);
  if (settings.data_dir !== undefined) settings.data_dir = resolve(base, settings.data_dir);
  if (settings.functions !== undefined) settings.functions = settings.functions.map((file) => resolve(base, file));
  return settings;
}
