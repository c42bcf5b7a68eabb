import { afterEach, expect, it, vi } from 'vitest';
import { inheritedEnvironment } from '../../node/executors/environment.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

it("work gets the peer's environment without its settings and without the cache of its own sources", () => {
  vi.stubEnv('FLOWMESH_HOME', '/home/peer');
  vi.stubEnv('NODE_COMPILE_CACHE', '/app/node_modules/.cache/flowmesh');
  vi.stubEnv('LANG', 'C');
  const environment = inheritedEnvironment();
  expect(environment).not.toHaveProperty('FLOWMESH_HOME');
  expect(environment).not.toHaveProperty('NODE_COMPILE_CACHE');
  expect(environment['LANG']).toBe('C');
});

it('a compile cache that the user asked for is kept', () => {
  vi.stubEnv('NODE_COMPILE_CACHE', '/var/cache/node');
  expect(inheritedEnvironment()['NODE_COMPILE_CACHE']).toBe('/var/cache/node');
});
