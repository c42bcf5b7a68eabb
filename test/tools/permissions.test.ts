import { describe, expect, it } from 'vitest';
import {
  NotPermittedError,
  othersOf,
  permissionPatternSchema,
  permits,
  permitsTool,
  ROLE_PERMISSIONS,
} from '../../tools/permissions.ts';
import { tools } from '../../tools/registry.ts';

const permitted = (patterns: readonly string[]) =>
  [...tools.values()].filter((tool) => permitsTool(patterns, tool)).map(({ name }) => name);

describe('patterns', () => {
  it.each([
    ['*', 'queue:admin', true],
    ['queue:*', 'queue:admin', true],
    ['*:read', 'queue:read', true],
    ['*:read', 'queue:write', false],
    ['queue:read', 'queue:read', true],
    ['queue:read', 'task:read', false],
    ['queue:write', 'queue:read', false],
    ['tool:read', 'tool:write', false],
  ])('%s gives %s: %s', (pattern, permission, given) => {
    expect(permits([pattern], permission)).toBe(given);
  });

  it('name one tool', () => {
    expect(permitted(['tool:queue_clear'])).toEqual(['queue_clear']);
    expect(permitted([])).toEqual([]);
  });

  it.each(['', 'task', 'task:', 'task:reads', 'tool:', 'tool:A', '**', 'task:read,queue:read', 'file:read'])(
    'are refused when they could never match: "%s"',
    (pattern) => {
      expect(permissionPatternSchema.safeParse(pattern).success).toBe(false);
    },
  );

  it('say what a caller may do with records of others', () => {
    expect(othersOf(ROLE_PERMISSIONS.admin)).toBe('write');
    expect(othersOf(ROLE_PERMISSIONS.readonly)).toBe('read');
    expect(othersOf(ROLE_PERMISSIONS.user)).toBe('none');
    expect(othersOf(['task:*', 'others:write'])).toBe('write');
  });
});

describe('the roles', () => {
  it('admin may use every tool, readonly exactly those that change nothing', () => {
    expect(permitted(ROLE_PERMISSIONS.admin)).toHaveLength(26);
    const reads = [...tools.values()].filter(({ permission }) => permission.endsWith(':read'));
    expect(permitted(ROLE_PERMISSIONS.readonly)).toEqual(reads.map(({ name }) => name));
    for (const { name, annotations } of reads) expect([name, annotations.readOnlyHint]).toEqual([name, true]);
  });

  it('user may use what is about workflows and tasks, and see the rest', () => {
    const may = permitted(ROLE_PERMISSIONS.user);
    expect(may).toContain('workflow_submit');
    expect(may).toContain('task_retry');
    expect(may).toContain('queue_stats');
    for (const name of ['queue_clear', 'queue_pause', 'worker_register', 'peer_connect', 'bootstrap_network'])
      expect(may).not.toContain(name);
  });
});

it('a refusal says which permission it takes', () => {
  const error = new NotPermittedError('queue_clear', 'queue:admin');
  expect(error.toShape()).toMatchObject({
    code: 'FORBIDDEN',
    retryable: false,
    details: { permission: 'queue:admin' },
  });
  expect(error.message).toContain('queue:admin');
});
