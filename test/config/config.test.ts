/** Settings: which source wins, and what is said about a wrong one. */
import { resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { describeOption, OPTIONS } from '../../node/config/options.ts';
import { configSchema, refuseOpenElsewhere, type Settings } from '../../node/config/settings.ts';
import { InvalidConfigError, resolveSettings, type Sources } from '../../node/config/sources.ts';
import {
  BEAT_INTERVAL_MS,
  COPIES_DEFAULT,
  COPIES_MAX,
  HISTORY_DAYS_DEFAULT,
  HISTORY_ROOTS_DEFAULT,
  TAKEOVER_MS,
} from '../../scheduler/limits.ts';

function settings(sources: Partial<Sources>) {
  return resolveSettings({ flags: {}, env: {}, file: undefined, cwd: '/work', ...sources });
}

function problems(sources: Partial<Sources>): string {
  try {
    settings(sources);
  } catch (error) {
    if (error instanceof InvalidConfigError) return error.message;
    throw error;
  }
  return 'no problem';
}

const file = (value: unknown) => ({ path: '/mesh/bootstrap.json', value });

describe('precedence', () => {
  it('nothing given: the defaults; what only the host can answer stays open', () => {
    const found = settings({});
    expect(found).toMatchObject({
      mesh: 'default',
      bootstrap: [],
      stdio: false,
      runtime: 'dedicated',
      shell: { allow: [] },
      gossip: true,
      copies: COPIES_DEFAULT,
      takeover_ms: TAKEOVER_MS,
      beat_interval_ms: BEAT_INTERVAL_MS,
      http: { host: '127.0.0.1' },
    });
    expect(found.data_dir).toBeUndefined();
    expect(found.listen).toBeUndefined();
    expect(found.http!.port).toBeUndefined();
    expect(found.worker.slots).toBeGreaterThanOrEqual(4);
  });

  it('flag > environment > file > default, for any subset of the sources', () => {
    const given = fc.record({ flag: fc.boolean(), env: fc.boolean(), file: fc.boolean() });
    fc.assert(
      fc.property(given, (from) => {
        const found = settings({
          flags: from.flag ? { mesh: 'of-flag', 'worker.slots': '1', 'worker.labels': ['a', 'b'] } : {},
          env: from.env ? { FLOWMESH_MESH: 'of-env', FLOWMESH_SLOTS: '2', FLOWMESH_LABELS: 'c,d' } : {},
          file: from.file ? file({ mesh: 'of-file', worker: { slots: 3, labels: ['e'], memory_gb: 1 } }) : undefined,
        });
        const pick = <T>(flag: T, env: T, inFile: T, standard: T) =>
          from.flag ? flag : from.env ? env : from.file ? inFile : standard;
        expect(found.mesh).toBe(pick('of-flag', 'of-env', 'of-file', 'default'));
        expect(found.worker.labels).toEqual(pick(['a', 'b'], ['c', 'd'], ['e'], []));
        expect(found.worker.slots).toBe(pick(1, 2, 3, found.worker.slots));
        // A field that no stronger source names keeps the file's.
        if (from.file) expect(found.worker.memory_gb).toBe(1);
      }),
    );
  });

  it.each([
    [{ slots: 4 }, 'slots', '"worker.slots"'],
    [{ labels: ['gpu'] }, 'labels', '"worker.labels"'],
    [{ label: ['gpu'] }, 'label', '"worker.labels"'],
    [{ allow_shell: ['git'] }, 'allow_shell', '"shell.allow"'],
    [{ 'allow-shell': ['git'] }, 'allow-shell', '"shell.allow"'],
    [{ httpPort: 1 }, 'httpPort', '"http.port"'],
    [{ port: 1 }, 'port', '"http.port"'],
    [{ allow: ['git'] }, 'allow', '"shell.allow" or "http_action.allow"'],
    [{ worker: { log_level: 'info' } }, 'worker.log_level', '"log_level"'],
    [{ http: { hots: 'x' } }, 'http.hots', '"host"'],
    [{ memry_gb: 1 }, 'memry_gb', '"worker.memory_gb"'],
  ])('a field of a file under a name that is known elsewhere: %j', (value, path, meant) => {
    expect(problems({ file: file(value) })).toContain(`${path}: is not a known field (did you mean ${meant}?)`);
  });

  it('an empty variable counts as not set', () => {
    expect(settings({ env: { FLOWMESH_MESH: ' ' }, file: file({ mesh: 'of-file' }) }).mesh).toBe('of-file');
  });

  it('HTTP is turned off by file, variable or flag, and on again by a stronger source', () => {
    expect(settings({ file: file({ http: false }) }).http).toBeNull();
    expect(settings({ env: { FLOWMESH_HTTP: 'no' } }).http).toBeNull();
    expect(settings({ flags: { http: false }, file: file({ http: { port: 7700 } }) }).http).toBeNull();
    expect(settings({ flags: { 'http.port': '7700' }, file: file({ http: null }) }).http).toMatchObject({
      host: '127.0.0.1',
      port: 7700,
    });
  });

  it('the two files of HTTPS may come from two sources, each with its own paths, and one alone is refused', () => {
    const sources = { flags: { 'http.tls.key': 'key.pem' }, file: file({ http: { tls: { cert: 'tls/cert.pem' } } }) };
    expect(settings(sources).http!.tls).toEqual({ cert: '/mesh/tls/cert.pem', key: '/work/key.pem' });
    expect(problems({ env: { FLOWMESH_TLS_KEY: 'key.pem' } })).toContain('http.tls.key: HTTPS needs http.tls.cert');
  });

  it('who may call this peer by which name, from which pages and through which proxies', () => {
    expect(settings({}).http).toEqual({ host: '127.0.0.1', allowed_hosts: [], trusted_proxies: [] });
    const flags = { 'http.trusted_proxies': ['10.0.0.7', 'fd00::/8'], 'http.allowed_hosts': ['peer.example'] };
    const env = { FLOWMESH_CORS_ORIGINS: 'https://app.example,http://localhost:5173,vscode-webview://0abc' };
    expect(settings({ flags, env }).http).toMatchObject({
      trusted_proxies: ['10.0.0.7', 'fd00::/8'],
      allowed_hosts: ['peer.example'],
      cors_origins: ['https://app.example', 'http://localhost:5173', 'vscode-webview://0abc'],
    });
    expect(settings({ file: file({ http: { cors_origins: [] } }) }).http!.cors_origins).toEqual([]);
    for (const wrong of ['proxy.example', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', 'fd00::/129', '10.1', ''])
      expect(problems({ flags: { 'http.trusted_proxies': [wrong] } })).toContain('--trusted-proxy');
    for (const wrong of [
      '*',
      'null',
      'app.example',
      'https://*.example',
      'https://app.example/',
      'https://a.example:443',
    ])
      expect(problems({ flags: { 'http.cors_origins': [wrong] } })).toContain('must be an origin such as');
    for (const wrong of ['https://peer.example', 'peer.example:443', '*.example', '-a'])
      expect(problems({ flags: { 'http.allowed_hosts': [wrong] } })).toContain('without a scheme and a port');
  });

  it('the number of copies can be given in every place', () => {
    expect(settings({ file: file({ copies: 3 }) }).copies).toBe(3);
    expect(settings({ file: file({ copies: 3 }), env: { FLOWMESH_COPIES: '4' } }).copies).toBe(4);
    expect(settings({ env: { FLOWMESH_COPIES: '4' }, flags: { copies: '1' } }).copies).toBe(1);
  });

  it('peers that are gone for good are named by their ids', () => {
    const id = '12D3KooWGRUVh7Jp5kcKjC3V7CgEuKyWBaNVTWYbYQh3MGYJyKjb';
    expect(settings({}).gone).toEqual([]);
    expect(settings({ flags: { gone: [id] } }).gone).toEqual([id]);
    expect(problems({ flags: { gone: ['laptop'] } })).toContain('must be the id of a peer');
  });

  it('a policy is read from the file; what is wrong in it is said with its field', () => {
    const id = '12D3KooWGRUVh7Jp5kcKjC3V7CgEuKyWBaNVTWYbYQh3MGYJyKjb';
    const policy = [
      { from: [id, 'role:admin'], allow: ['*'], limits: { memory_mb: 512, cpu_s: 0.5, output_mb: 1.5 } },
      { from: ['self', '*'], allow: ['echo', 'shell:git', 'http:*.example.org', 'http-private', 'fn:*'] },
    ];
    expect(settings({}).policy).toBeUndefined();
    expect(settings({ file: file({ policy }) }).policy).toEqual(policy);
    expect(settings({ file: file({ policy: [] }) }).policy).toEqual([]);
    const wrong = (rule: object) => problems({ file: file({ policy: [policy[0], rule] }) });
    expect(wrong({ from: ['ada'], allow: [] })).toContain('policy[1].from[0]: must be the id of a peer, "role:');
    expect(wrong({ from: ['role:boss'], allow: [] })).toContain(
      'policy[1].from[0]: names no role; the roles are submit',
    );
    expect(wrong({ from: [], allow: [] })).toContain('policy[1].from: must name at least one caller');
    expect(wrong({ from: ['*'] })).toContain('policy[1].allow: is missing');
    expect(wrong({ from: ['*'], allow: ['shell'] })).toContain(
      'policy[1].allow[0]: does not say which; write shell:git',
    );
    expect(wrong({ from: ['*'], allow: ['echo', 'git'] })).toContain(
      'policy[1].allow[1]: is nothing that can run here',
    );
    expect(wrong({ from: ['*'], allow: ['http://a.b/'] })).toContain('policy[1].allow[0]: must name a host alone');
    const limits = (value: object) => wrong({ from: ['*'], allow: [], limits: value });
    expect(limits({ memory_mb: 1.5 })).toContain('policy[1].limits.memory_mb: must be a whole number');
    expect(limits({ processes: 0 })).toContain('policy[1].limits.processes: must be at least 1');
    expect(limits({ wall_s: 0 })).toContain('policy[1].limits.wall_s: must be more than 0');
    expect(limits({ wall_ms: 5 })).toContain('policy[1].limits.wall_ms: is not a known field');
    expect(wrong({ from: ['*'], allow: [], deny: [] })).toContain('policy[1].deny: is not a known field');
  });

  it('how much history is kept can be given in every place', () => {
    expect(settings({})).toMatchObject({ history_days: HISTORY_DAYS_DEFAULT, history_max: HISTORY_ROOTS_DEFAULT });
    const given = { file: file({ history_days: 7, history_max: 10 }), env: { FLOWMESH_HISTORY_DAYS: '0.5' } };
    expect(settings(given)).toMatchObject({ history_days: 0.5, history_max: 10 });
    expect(settings({ ...given, flags: { history_max: '0' } })).toMatchObject({ history_days: 0.5, history_max: 0 });
    expect(problems({ flags: { history_days: '-1' } })).toContain('--history-days -1: ');
    expect(problems({ env: { FLOWMESH_HISTORY_MAX: '1.5' } })).toContain('FLOWMESH_HISTORY_MAX=1.5: ');
  });

  it('relative paths belong to where they were written', () => {
    const found = settings({ flags: { data_dir: 'here' }, file: file({ data_dir: 'there', functions: ['fn.mjs'] }) });
    expect(found.data_dir).toBe(resolve('/work/here'));
    expect(found.functions).toEqual([resolve('/mesh/fn.mjs')]);
  });

  it('every command is allowed by * alone: a flag without words is refused, with both spellings', () => {
    expect(settings({ flags: { 'shell.allow': ['*'] } }).shell.allow).toEqual(['*']);
    const refusal = problems({ flags: { 'shell.allow': true } });
    expect(refusal).toContain('--allow-shell: names no command');
    expect(refusal).toContain('--allow-shell git wc ');
    expect(refusal).toContain("--allow-shell '*'");
  });

  it.each([
    ['shell.allow', 'FLOWMESH_ALLOW_SHELL', ['git', 'wc', 'ls'], (found: Settings) => found.shell.allow],
    ['worker.labels', 'FLOWMESH_LABELS', ['gpu', 'a', 'b'], (found: Settings) => found.worker.labels],
    ['pass_env', 'FLOWMESH_PASS_ENV', ['A', 'B_*', 'C'], (found: Settings) => found.pass_env],
    ['shell.step_env', 'FLOWMESH_STEP_ENV', ['A', 'B_*', 'C'], (found: Settings) => found.shell.step_env],
  ])('%s takes a,b for two on the command line as in %s', (path, variable, [a, b, c], read) => {
    expect(read(settings({ flags: { [path]: [`${a},${b}`, c!] } }))).toEqual([a, b, c]);
    expect(read(settings({ env: { [variable]: `${a}, ${b},${c}` } }))).toEqual([a, b, c]);
  });

  it('variables are named whole or by their beginning', () => {
    expect(problems({ flags: { pass_env: ['A=B'] } })).toContain('--pass-env A=B: must be the name of a variable');
    expect(problems({ env: { FLOWMESH_STEP_ENV: 'A*B' } })).toContain('must be the name of a variable');
  });
});

describe('a wrong setting', () => {
  it.for([
    ['a flag', { flags: { 'http.port': '70000' } }, ['--http-port 70000: ', '0 to 65535']],
    ['a variable', { env: { FLOWMESH_SLOTS: 'many' } }, ['FLOWMESH_SLOTS=many: ', 'must be a whole number']],
    ['a fraction', { env: { FLOWMESH_SLOTS: '1.5' } }, ['FLOWMESH_SLOTS=1.5: ', 'whole number']],
    ['a switch', { env: { FLOWMESH_GOSSIP: 'maybe' } }, ['FLOWMESH_GOSSIP=maybe: ', 'true or false']],
    [
      'a choice',
      { flags: { runtime: 'inlin' } },
      ['--runtime inlin: ', '"dedicated", "inline"', 'did you mean "inline"?'],
    ],
    ['a field of the file', { file: file({ meshh: 'a' }) }, ['/mesh/bootstrap.json, meshh: ', 'did you mean "mesh"?']],
    [
      'a nested field',
      { file: file({ worker: { slot: 1 } }) },
      ['bootstrap.json, worker.slot: ', 'did you mean "slots"?'],
    ],
    ['a field of http', { file: file({ http: { prot: 1 } }) }, ['bootstrap.json, http.prot: ', 'did you mean "port"?']],
    [
      'an address',
      { flags: { bootstrap: ['127.0.0.1:7600'] } },
      ['--join 127.0.0.1:7600: ', '/ip4/127.0.0.1/tcp/7600'],
    ],
    ['a transport', { flags: { bootstrap: ['/ip4/127.0.0.1/udp/7600'] } }, ['--join ', 'must be a TCP multiaddr']],
    ['a mesh name', { flags: { mesh: '../x' } }, ['--mesh ../x: ', '1 to 63 characters']],
    ['too few copies', { flags: { copies: '0' } }, ['--copies 0: ', 'at least 1']],
    ['too many copies', { env: { FLOWMESH_COPIES: '9' } }, ['FLOWMESH_COPIES=9: ', `at most ${COPIES_MAX}`]],
    ['a duration', { env: { FLOWMESH_TAKEOVER_MS: '1' } }, ['FLOWMESH_TAKEOVER_MS=1: ', 'at least 10 ms']],
  ] satisfies [string, Partial<Sources>, string[]][])(
    '%s is named with its source and what is allowed',
    ([, sources, parts]) => {
      const message = problems(sources);
      for (const part of parts) expect(message).toContain(part);
    },
  );

  it('all are told at once', () => {
    const message = problems({ flags: { runtime: 'x' }, env: { FLOWMESH_SLOTS: '-1' }, file: file({ mesh: 7 }) });
    expect(message).toMatch(/^3 settings are wrong/);
  });

  it('of a list the wrong item is named', () => {
    const message = problems({ flags: { listen: ['/ip4/127.0.0.1/tcp/0', '/ip4/0.0.0.0/udp/0'] } });
    expect(message).toContain(': /ip4/0.0.0.0/udp/0 must be a TCP multiaddr');
  });

  it('an open mesh is for one machine', () => {
    expect(() => refuseOpenElsewhere(['/ip4/127.0.0.1/tcp/0', '/ip6/::1/tcp/0'])).not.toThrow();
    for (const address of ['/ip4/0.0.0.0/tcp/0', '/ip4/192.168.1.7/tcp/7600', '/dns4/example.org/tcp/1']) {
      expect(() => refuseOpenElsewhere([address])).toThrow(/loopback.*flowmesh mesh init/);
    }
  });

  it.for(['0.0.0.0', '::', '192.168.1.7', 'example.org'])('HTTP on %s is refused with the way out', (host) => {
    expect(problems({ flags: { 'http.host': host } })).toMatch(/loopback.*without authentication.*tunnel/);
  });

  it.for(['127.0.0.1', '127.0.1.1', '::1', 'localhost'])('HTTP on %s is accepted', (host) => {
    expect(settings({ flags: { 'http.host': host } }).http!.host).toBe(host);
  });
});

describe('the table of options', () => {
  it('has a sentence, a flag and a variable of its own for each', () => {
    for (const each of OPTIONS) expect(describeOption(each.path), each.path).not.toBe('');
    expect(new Set(OPTIONS.map(({ flag }) => flag)).size).toBe(OPTIONS.length);
    expect(new Set(OPTIONS.map(({ env }) => env)).size).toBe(OPTIONS.length);
  });

  it('reaches every field of a config', () => {
    const leaves = (value: object, prefix = ''): string[] =>
      Object.entries(value).flatMap(([key, inner]) =>
        typeof inner === 'object' && inner !== null && !Array.isArray(inner)
          ? leaves(inner, `${prefix}${key}.`)
          : [prefix + key],
      );
    const paths = new Set(OPTIONS.map(({ path }) => path));
    const isReached = (path: string) => paths.has(path) || path.startsWith('limits.'); // The mesh file alone has these.
    expect(leaves(configSchema.parse({ data_dir: '/x' })).filter((path) => !isReached(path))).toEqual([]);
  });
});
