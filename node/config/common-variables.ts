/**
 * Variables of the environment by the names that deployments have, whatever program runs there. They are weaker than
 * `FLOWMESH_…`: what is said to this program alone counts. Of two that say the same setting the later one here counts.
 */

type Value = string | boolean | string[];

/** Settings by their path, as if a stronger variable had given each. */
type Given = Record<string, Value>;

export interface CommonVariable {
  env: string;
  /** For people. */
  meaning: string;
  /** The setting that it is another name of. */
  path?: string;
  /** Or what each word that it may be stands for. */
  words?: Record<string, Given | ((env: Environment) => Given)>;
}

type Environment = Record<string, string | undefined>;

const OVER_STDIO: Given = { stdio: true };
const OVER_HTTP: Given = { stdio: false, http: true };

export const COMMON_VARIABLES: readonly CommonVariable[] = [
  {
    env: 'DEPLOYMENT_MODE',
    meaning:
      '`local` or `subprocess`: MCP over stdio, as `TRANSPORT_TYPE=stdio`; `docker`: over HTTP where `MCP_PORT` is set, else over stdio; `cloud`: over HTTP on every address (`0.0.0.0`), with `auth`',
    words: {
      local: OVER_STDIO,
      subprocess: OVER_STDIO,
      docker: (env) => (env['MCP_PORT']?.trim() ? OVER_HTTP : OVER_STDIO),
      cloud: { ...OVER_HTTP, 'http.host': '0.0.0.0', auth: true },
    },
  },
  {
    env: 'TRANSPORT_TYPE',
    meaning: '`stdio`: `stdio` is on, and HTTP stays on loopback for the command line; `http`: HTTP alone',
    words: { stdio: OVER_STDIO, http: OVER_HTTP },
  },
  { env: 'PORT', meaning: '`http.port`', path: 'http.port' },
  { env: 'MCP_PORT', meaning: '`http.port`; stronger than `PORT`', path: 'http.port' },
  { env: 'HOST', meaning: '`http.host`', path: 'http.host' },
  {
    env: 'ENABLE_AUTH',
    meaning: '`true`: `auth` is on, with what `API_KEY` and `JWT_SECRET` say; `false`: it is off',
    words: { true: { auth: true }, false: { auth: false } },
  },
  {
    env: 'ENABLE_CORS',
    meaning:
      '`false`: no pages but the own ones, as an empty `http.cors_origins`; `true`: those of `http.cors_origins`, and never every page',
    words: { true: {}, false: { 'http.cors_origins': [] } },
  },
  { env: 'LOG_LEVEL', meaning: '`log_level`', path: 'log_level' },
];

export interface CommonSetting {
  path: string;
  raw: Value;
  /** `PORT=8080` */
  source: string;
}

/** What these variables say, the weakest first, and which of them say nothing that can be understood. */
export function commonSettings(env: Environment): {
  settings: CommonSetting[];
  problems: { source: string; message: string }[];
} {
  const settings: CommonSetting[] = [];
  const problems: { source: string; message: string }[] = [];
  for (const { env: name, path, words } of COMMON_VARIABLES) {
    const value = env[name]?.trim();
    if (value === undefined || value === '') continue;
    const source = `${name}=${value}`;
    if (path !== undefined) settings.push({ path, raw: path === 'log_level' ? value.toLowerCase() : value, source });
    if (words === undefined) continue;
    const said = words[switchWord(value) === undefined ? value.toLowerCase() : String(switchWord(value))];
    if (said === undefined) problems.push({ source, message: `must be one of ${Object.keys(words).join(', ')}` });
    const given = typeof said === 'function' ? said(env) : (said ?? {});
    for (const [each, raw] of Object.entries(given)) settings.push({ path: each, raw, source });
  }
  return { settings, problems };
}

/** What people write for yes and no. */
export function switchWord(text: string): boolean | undefined {
  if (/^(true|1|yes|on)$/i.test(text)) return true;
  return /^(false|0|no|off)$/i.test(text) ? false : undefined;
}
