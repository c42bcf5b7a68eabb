/** Who may run what: which rule decides, and that none widens what the other settings allow. */
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import type { PolicyRule } from '../../node/executors/executor-config.ts';
import { Policy } from '../../node/executors/policy.ts';
import type { Caller, Role } from '../../scheduler/roles.ts';

const ADA = '12D3KooWGRUVh7Jp5kcKjC3V7CgEuKyWBaNVTWYbYQh3MGYJyKjb';
const caller = (peer_id: string, ...roles: Role[]): Caller => ({ peer_id, own: false, roles: new Set(roles) });
const SELF: Caller = { peer_id: 'me', own: true, roles: new Set(['work']) };

interface Settings {
  programs?: string[];
  hosts?: string[];
  private?: boolean;
}
const policyOf = (policy: PolicyRule[] | undefined, settings: Settings = {}) =>
  new Policy({
    shell: { allow: settings.programs ?? ['*'], step_env: [] },
    http_action: { private: settings.private ?? true, allow: settings.hosts ?? [] },
    policy,
  });
const run = (command: string): JsonObject => ({ command: [command] });
const rule = (from: string[], ...allow: string[]): PolicyRule => ({ from, allow });

describe('the rule that decides', () => {
  const policy = policyOf([
    rule([ADA], 'echo'),
    rule(['role:admin'], '*'),
    rule(['self'], 'fn:*'),
    rule(['*'], 'shell:wc'),
  ]);

  it.each<[string, Caller, string, JsonObject, boolean]>([
    ['names the peer', caller(ADA), 'echo', {}, true],
    ['is the first one, not the widest', caller(ADA, 'admin'), 'shell', run('wc'), false],
    ['names a role', caller('bob', 'submit', 'admin'), 'shell', run('rm'), true],
    ['names this peer', SELF, 'fn:any', {}, true],
    ['names this peer, and so not another one', caller('bob', 'submit'), 'fn:any', {}, false],
    ['names everybody', caller('bob', 'submit'), 'shell', run('wc'), true],
    ['names one program', caller('bob', 'submit'), 'shell', run('rm'), false],
  ])('%s', (_what, who, action, payload, may) => {
    expect(policy.refuses(who, action, payload) === null).toBe(may);
  });

  it('is missing: who is named by none runs nothing, and without a policy everybody runs everything', () => {
    expect(policyOf([rule([ADA], '*')]).refuses(caller('bob', 'admin'), 'echo')).not.toBeNull();
    expect(policyOf([]).refuses(SELF, 'echo')).not.toBeNull();
    expect(policyOf(undefined).refuses(caller('bob'), 'shell', run('rm'))).toBeNull();
  });

  it('says who may not run what', () => {
    expect(policy.refuses(caller('bob', 'submit'), 'shell', run('rm'))).toBe(
      "this peer's policy does not let peer bob (roles submit) run shell:rm (setting policy)",
    );
    expect(policy.refuses(caller('bob'), 'fn:resize')).toContain('let peer bob run fn:resize');
    expect(policy.refuses(SELF, 'echo')).toContain('let itself run echo');
  });
});

describe('what a rule allows', () => {
  const bob = caller('bob', 'submit');
  it.each<[string[], string, JsonObject, boolean]>([
    [['http:*.Example.org'], 'http', { url: 'https://a.example.org/' }, true],
    [['http:*.example.org'], 'http', { url: 'https://example.net/' }, false],
    [['http:*'], 'http', { url: 'http://10.0.0.1/' }, false],
    [['http:10.0.0.1', 'http-private'], 'http', { url: 'http://10.0.0.1/' }, true],
    [['fn:resize'], 'fn:resize', {}, true],
    [['fn:resize'], 'fn:resized', {}, false],
    [['fn:*'], 'echo', {}, false],
    [['shell:*'], 'shell', run('/bin/anything'), true],
    [['*'], 'fn:x', {}, true],
    [[], 'echo', {}, false],
  ])('%j: %s %j is %s', (allow, action, payload, may) => {
    expect(policyOf([rule(['*'], ...allow)]).refuses(bob, action, payload) === null).toBe(may);
  });
});

describe('what a caller may run is what the rule and the other settings allow both', () => {
  const bob = caller('bob');
  it.each<[string[], Settings, string[]]>([
    [['*'], { programs: ['git'], hosts: ['a.b'], private: false }, ['shell:git', 'http:a.b']],
    [['shell:*', 'http:*'], { programs: ['git'], private: true }, ['shell:git', 'http:*']],
    [['shell:git', 'shell:rm'], { programs: ['git', 'ls'] }, ['shell:git']],
    [['http:x.a.b', 'http:*.c'], { hosts: ['*.b', 'd.c', 'e'] }, ['http:x.a.b', 'http:d.c']],
    [['echo'], {}, []],
  ])('%j within %j', (allow, settings, expected) => {
    const grant = policyOf([rule(['*'], ...allow)], settings).grantFor(bob);
    expect(grant.allows).toEqual(expected);
  });

  it('holds for the programs and hosts that the actions are started with', () => {
    const { shell, http } = policyOf([rule(['*'], 'shell:git', 'http:*.b')], { hosts: ['x.a.b'] }).grantFor(bob);
    expect(shell.allow).toEqual(['git']);
    expect(http).toEqual({ private: false, allow: ['x.a.b'] });
    expect(policyOf(undefined, { private: false }).grantFor(bob).http).toEqual({ private: false, allow: [] });
  });

  it('is announced to all as what somebody may', () => {
    const policy = policyOf([rule([ADA], 'shell:git'), rule(['*'], 'shell:ls', 'http:a.b')]);
    expect(policy.allowsSomebody().sort()).toEqual(['http:a.b', 'shell:git', 'shell:ls']);
  });
});
