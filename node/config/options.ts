/** The settings that can be given as a flag or in the environment, and the variables of both. */
import type { z } from 'zod';
import { settingsSchema } from './settings.ts';

/** One setting that can be given as a flag or in the environment; described by its field in `settingsSchema`. */
export interface Option {
  /** Its field in the settings, e.g. `http.port`. */
  path: string;
  /** As commander writes it: `--http-port <port>`, `--no-gossip`, `--label <label...>`. */
  flag: string;
  env: string;
  kind: 'string' | 'number' | 'boolean' | 'list';
  /** Where help shows it. */
  group: 'Mesh' | 'Place' | 'Work' | 'Runtime' | 'Tuning';
}

function option(path: string, flag: string, kind: Option['kind'], group: Option['group'], env?: string): Option {
  return { path, flag, kind, group, env: env ?? `FLOWMESH_${path.replaceAll('.', '_').toUpperCase()}` };
}

export const OPTIONS: readonly Option[] = [
  option('mesh', '--mesh <name>', 'string', 'Mesh'),
  option('bootstrap', '--join <multiaddr...>', 'list', 'Mesh'),
  option('mdns', '--mdns', 'boolean', 'Mesh'),
  option('gossip', '--no-gossip', 'boolean', 'Mesh'),
  option('auto_connect', '--no-auto-connect', 'boolean', 'Mesh'),
  option('target_connections', '--target-connections <count>', 'number', 'Mesh'),
  option('copies', '--copies <count>', 'number', 'Mesh'),
  option('history_days', '--history-days <days>', 'number', 'Mesh'),
  option('history_max', '--history-max <count>', 'number', 'Mesh'),
  option('gone', '--gone <peer-id...>', 'list', 'Mesh'),
  option('data_dir', '--data-dir <folder>', 'string', 'Place'),
  option('name', '--name <name>', 'string', 'Place'),
  option('listen', '--listen <multiaddr...>', 'list', 'Place'),
  option('http.port', '--http-port <port>', 'number', 'Place'),
  option('http.host', '--http-host <host>', 'string', 'Place'),
  option('http', '--no-http', 'boolean', 'Place'),
  option('http.tls.cert', '--tls-cert <file>', 'string', 'Place', 'FLOWMESH_TLS_CERT'),
  option('http.tls.key', '--tls-key <file>', 'string', 'Place', 'FLOWMESH_TLS_KEY'),
  option('http.allowed_hosts', '--allowed-host <name...>', 'list', 'Place', 'FLOWMESH_ALLOWED_HOSTS'),
  option('http.cors_origins', '--cors-origin <origin...>', 'list', 'Place', 'FLOWMESH_CORS_ORIGINS'),
  option('http.trusted_proxies', '--trusted-proxy <address...>', 'list', 'Place', 'FLOWMESH_TRUSTED_PROXIES'),
  option('auth', '--auth', 'boolean', 'Place'),
  option('audit', '--audit', 'boolean', 'Place'),
  option('stdio', '--stdio', 'boolean', 'Place'),
  option('worker.slots', '--slots <count>', 'number', 'Work', 'FLOWMESH_SLOTS'),
  option('worker.labels', '--label <label...>', 'list', 'Work', 'FLOWMESH_LABELS'),
  option('worker.worker_id', '--worker-id <id>', 'string', 'Work', 'FLOWMESH_WORKER_ID'),
  option('worker.cpu_cores', '--cpu-cores <number>', 'number', 'Work', 'FLOWMESH_CPU_CORES'),
  option('worker.memory_gb', '--memory-gb <number>', 'number', 'Work', 'FLOWMESH_MEMORY_GB'),
  option('shell.allow', '--allow-shell [command...]', 'list', 'Work', 'FLOWMESH_ALLOW_SHELL'),
  option('shell.step_env', '--step-env <name...>', 'list', 'Work', 'FLOWMESH_STEP_ENV'),
  option('pass_env', '--pass-env <name...>', 'list', 'Work'),
  option('http_action.allow', '--allow-http <host...>', 'list', 'Work', 'FLOWMESH_ALLOW_HTTP'),
  option('http_action.private', '--http-private', 'boolean', 'Work', 'FLOWMESH_HTTP_PRIVATE'),
  option('functions', '--functions <file...>', 'list', 'Work'),
  option('drain_timeout_ms', '--drain-timeout-ms <ms>', 'number', 'Work'),
  option('runtime', '--runtime <runtime>', 'string', 'Runtime'),
  option('log_level', '--log-level <level>', 'string', 'Runtime'),
  option('takeover_ms', '--takeover-ms <ms>', 'number', 'Tuning'),
  option('beat_interval_ms', '--beat-interval-ms <ms>', 'number', 'Tuning'),
  option('offer_interval_ms', '--offer-interval-ms <ms>', 'number', 'Tuning'),
];

/**
 * Secrets are no flags: everybody on the machine can read those. Other programs have variables of these names, too, so
 * they count only where `auth` is set.
 */
export const SECRET_VARIABLES: readonly { env: string; path: string }[] = [
  { env: 'API_KEY', path: 'auth.api_key' },
  { env: 'JWT_SECRET', path: 'auth.jwt.secret' },
  { env: 'REDIS_URL', path: 'limits.redis_url' },
];

/** Variables that are not settings of a peer, or count only beside one. */
export const OTHER_VARIABLES: Record<string, string> = {
  FLOWMESH_HOME:
    'Folder in which peers without a data_dir have theirs, and in which commands look for peers (default: ~/.flowmesh)',
  FLOWMESH_URL: 'The peer that commands talk to, e.g. http://127.0.0.1:7601',
  FLOWMESH_API_KEY:
    'The key or token that commands show to a peer; without it, peers of this user on this machine know their user',
  API_KEY: 'One key of this peer alone (`auth.api_key`), where `auth` is set',
  JWT_SECRET: 'The secret that tokens are signed with (`auth.jwt.secret`), where `auth` is set',
  REDIS_URL: 'A Redis in which peers count together what callers do (`limits.redis_url`), where `auth` is set',
};
/** Of the tests alone. */
const TEST_VARIABLES = ['FLOWMESH_CRASH_AT'];

/** Every variable of the environment that the program reads. */
export function knownVariables(): Set<string> {
  return new Set([...OPTIONS.map((each) => each.env), ...Object.keys(OTHER_VARIABLES), ...TEST_VARIABLES]);
}

/** The option's flag without its argument: `--http-port`. */
export function flagName(each: Option): string {
  return each.flag.split(' ')[0]!;
}

/** What `.describe()` says about a field of the settings. */
export function describeOption(path: string): string {
  let schema: z.core.$ZodType = settingsSchema;
  for (const key of path.split('.')) schema = shapeOf(schema)[key]!;
  return (schema as z.ZodType).description ?? '';
}

function shapeOf(schema: z.core.$ZodType): Record<string, z.core.$ZodType> {
  let definition = schema._zod.def as { shape?: Record<string, z.core.$ZodType>; innerType?: z.core.$ZodType };
  while (definition.innerType !== undefined) definition = definition.innerType._zod.def as typeof definition;
  return definition.shape!;
}
