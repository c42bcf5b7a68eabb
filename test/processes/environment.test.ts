import { expect, it } from 'vitest';
import { isNamed, passedEnvironment } from '../../node/processes/environment.ts';

const PEER = {
  PATH: '/bin',
  HOME: '/home/peer',
  LANG: 'C',
  LC_TIME: 'de_DE',
  TZ: 'UTC',
  TMPDIR: '/tmp',
  AWS_PROFILE: 'prod',
  AWS_SECRET_ACCESS_KEY: 'secret',
  NODE_COMPILE_CACHE: '/app/node_modules/.cache/flowmesh',
  FLOWMESH_HOME: '/home/peer/mesh',
  FLOWMESH_URL: 'http://127.0.0.1:7601',
};

it('work gets what every program needs and nothing else of its peer', () => {
  const { PATH, HOME, LANG, LC_TIME, TZ, TMPDIR } = PEER;
  expect(passedEnvironment(PEER, [])).toEqual({ PATH, HOME, LANG, LC_TIME, TZ, TMPDIR });
});

it('work gets what pass_env names, by name or by the beginning of names', () => {
  expect(passedEnvironment(PEER, ['AWS_PROFILE'])).toMatchObject({ AWS_PROFILE: 'prod' });
  expect(passedEnvironment(PEER, ['AWS_PROFILE'])).not.toHaveProperty('AWS_SECRET_ACCESS_KEY');
  expect(passedEnvironment(PEER, ['AWS_*'])).toMatchObject({ AWS_PROFILE: 'prod', AWS_SECRET_ACCESS_KEY: 'secret' });
});

it('a setting of flowmesh is passed by its whole name only', () => {
  expect(passedEnvironment(PEER, ['*'])).toHaveProperty('AWS_PROFILE');
  expect(passedEnvironment(PEER, ['*', 'FLOWMESH_*'])).not.toHaveProperty('FLOWMESH_HOME');
  expect(passedEnvironment(PEER, ['FLOWMESH_URL'])).toMatchObject({ FLOWMESH_URL: 'http://127.0.0.1:7601' });
});

it.each([
  ['TARGET', ['TARGET'], true],
  ['TARGET2', ['TARGET'], false],
  ['APP_MODE', ['TARGET', 'APP_*'], true],
  ['path', ['PATH'], false],
])('%s is named by %j: %s', (name, patterns, expected) => {
  expect(isNamed(name, patterns)).toBe(expected);
});
