import { describe, expect, it } from 'vitest';
import { allowancesOf, needsOf } from '../../node/executors/allowances.ts';

describe('what a peer says it allows', () => {
  it.each([
    ['no program and every public host', [], { private: false, allow: [] }, ['http:*']],
    [
      'the programs it names',
      ['wc', '/bin/ls'],
      { private: false, allow: [] },
      ['shell:wc', 'shell:/bin/ls', 'http:*'],
    ],
    ['every program', ['*'], { private: true, allow: [] }, ['shell:*', 'http:*', 'http-private']],
    ['the hosts it names', [], { private: false, allow: ['A.Example', '*.b'] }, ['http:a.example', 'http:*.b']],
  ])('%s', (_what, allow, http_action, expected) => {
    expect(allowancesOf({ shell: { allow }, http_action })).toEqual(expected);
  });
});

describe('what a task needs of the peer that runs it', () => {
  it.each([
    ['shell', { command: ['wc', '-l'] }, ['shell:wc']],
    ['shell', { command: 'wc -l' }, []],
    ['shell', { command: [] }, []],
    ['shell', {}, []],
    ['http', { url: 'https://Example.org./a' }, ['http:example.org']],
    ['http', { url: 'http://127.0.0.1:1/' }, ['http:127.0.0.1', 'http-private']],
    ['http', { url: 'http://[::1]/' }, ['http:::1', 'http-private']],
    ['http', { url: 'http://app.localhost/' }, ['http:app.localhost', 'http-private']],
    ['http', { url: 'http://8.8.8.8/' }, ['http:8.8.8.8']],
    ['http', { url: 'not a url' }, []],
    ['http', { url: 7 }, []],
    ['http', { url: `http://example.org/${'x'.repeat(10_000)}` }, []],
    ['fn:x', { command: ['wc'], url: 'http://a/' }, []],
  ])('%s %o', (action, payload, expected) => {
    expect(needsOf(action, payload)).toEqual(expected);
  });
});
