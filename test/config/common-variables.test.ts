/** Variables by the names that deployments have. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { COMMON_VARIABLES } from '../../node/config/common-variables.ts';
import { OPTIONS, SECRET_VARIABLES } from '../../node/config/options.ts';
import { resolveSettings, type Sources } from '../../node/config/sources.ts';

const settings = (env: Sources['env'], more: Partial<Sources> = {}) =>
  resolveSettings({ flags: {}, file: undefined, cwd: '/work', ...more, env });
const file = (value: unknown) => ({ path: '/mesh/bootstrap.json', value });

describe('a name that is another one for a setting', () => {
  it('is stronger than the file, and weaker than FLOWMESH_… and a flag', () => {
    const inFile = { file: file({ http: { port: 1 }, log_level: 'error' }) };
    expect(settings({ PORT: '8080', LOG_LEVEL: 'DEBUG' }, inFile)).toMatchObject({
      http: { port: 8080 },
      log_level: 'debug',
    });
    expect(settings({ PORT: '8080', FLOWMESH_HTTP_PORT: '7700' }, inFile).http!.port).toBe(7700);
    expect(settings({ PORT: '8080' }, { flags: { 'http.port': '7701' } }).http!.port).toBe(7701);
    expect(settings({ PORT: '8080', MCP_PORT: '3000' }).http!.port).toBe(3000);
    expect(settings({ HOST: '::1' }).http!.host).toBe('::1');
    expect(settings({ PORT: ' ', HOST: '', LOG_LEVEL: '' })).toMatchObject({ http: { host: '127.0.0.1' } });
  });
});

describe('how MCP is served', () => {
  it.each([
    [{ TRANSPORT_TYPE: 'stdio' }, true],
    [{ TRANSPORT_TYPE: 'HTTP' }, false],
    [{ DEPLOYMENT_MODE: 'local' }, true],
    [{ DEPLOYMENT_MODE: 'subprocess' }, true],
    [{ DEPLOYMENT_MODE: 'docker' }, true],
    [{ DEPLOYMENT_MODE: 'docker', MCP_PORT: ' ' }, true],
    [{ DEPLOYMENT_MODE: 'docker', MCP_PORT: '3000' }, false],
    [{ DEPLOYMENT_MODE: 'local', TRANSPORT_TYPE: 'http' }, false],
    [{ DEPLOYMENT_MODE: 'local', FLOWMESH_STDIO: 'no' }, false],
  ])('%j: over stdio %s, and over HTTP for the command line', (env, stdio) => {
    const found = settings(env, { file: file({ stdio: !stdio }) });
    expect(found.stdio).toBe(stdio);
    expect(found.http).toMatchObject({ host: '127.0.0.1' });
  });

  it('http turns on what the file turned off', () => {
    const off = { file: file({ http: false }) };
    expect(settings({ TRANSPORT_TYPE: 'http' }, off).http).toMatchObject({ host: '127.0.0.1' });
    expect(settings({ TRANSPORT_TYPE: 'stdio' }, off).http).toBeNull();
  });
});

it('ENABLE_CORS=false shuts every other page out, true lets no more in than the list', () => {
  const listed = { file: file({ http: { cors_origins: ['https://app.example'] } }) };
  expect(settings({ ENABLE_CORS: 'off' }, listed).http!.cors_origins).toEqual([]);
  expect(settings({ ENABLE_CORS: 'true' }, listed).http!.cors_origins).toEqual(['https://app.example']);
  expect(settings({ ENABLE_CORS: '1' }).http!.cors_origins).toBeUndefined();
});

it.each([
  ['PORT', '80800', 'from 0 to 65535'],
  ['MCP_PORT', 'http', 'whole number'],
  ['LOG_LEVEL', 'loud', '"debug"'],
  ['TRANSPORT_TYPE', 'sse', 'must be one of stdio, http'],
  ['DEPLOYMENT_MODE', 'kubernetes', 'must be one of local, subprocess, docker, cloud'],
  ['ENABLE_CORS', '*', 'must be one of true, false'],
])('a wrong value is refused with the name: %s=%s', (name, value, why) => {
  const refused = () => settings({ [name]: value });
  expect(refused).toThrow(`${name}=${value}: `);
  expect(refused).toThrow(why);
});

it('each stands for settings that there are, and reaches a peer that leaves other variables behind', () => {
  const paths = new Set(OPTIONS.map(({ path }) => path));
  const kept = new RegExp(
    /^ {2}\/(\^\(PATH.*\$)\/;$/m.exec(readFileSync(join(import.meta.dirname, '../../bin/flowmesh.js'), 'utf8'))![1]!,
  );
  expect(kept.test('SOME_SECRET')).toBe(false);
  for (const { env } of SECRET_VARIABLES) expect(env).toMatch(kept);
  for (const { env, path, words = {} } of COMMON_VARIABLES) {
    expect(env).toMatch(kept);
    const given = Object.values(words).flatMap((each) => Object.keys(typeof each === 'function' ? each({}) : each));
    for (const each of path === undefined ? given : [path]) expect(paths).toContain(each);
  }
});
