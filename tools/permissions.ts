/**
 * What a caller may do, as patterns: `workflow:*`, `task:read`, `*:read`, `tool:queue_clear`, or `*` for everything. A tool
 * names its permission once, in its definition. Two are about records and not about tools: `others:read` and
 * `others:write` let a caller see and change what others have submitted.
 */
import { z } from 'zod';
import { FlowmeshError } from '../dag/errors.ts';
import type { Caller } from '../scheduler/caller.ts';

const PATTERN = /^(\*|tool:[a-z_]{1,64}|(\*|workflow|task|queue|worker|peer|others):(\*|read|write|admin))$/;

export const permissionPatternSchema = z
  .string()
  .regex(PATTERN, 'must be a permission such as workflow:*, task:read, *:read, tool:queue_clear or *');

/** What the roles may do, unless the mesh file says otherwise (`auth.roles`). */
export const ROLE_PERMISSIONS = {
  admin: ['*'],
  user: ['workflow:*', 'task:*', 'queue:read', 'worker:read', 'peer:read'],
  readonly: ['*:read'],
} as const satisfies Record<string, readonly string[]>;

/** A caller's call was refused: it may not use the tool. Nothing was done. */
export class NotPermittedError extends FlowmeshError {
  constructor(what: string, permission: string) {
    super(
      'FORBIDDEN',
      `you may not use ${what}: it needs the permission ${permission}, which your key or token does not have; an admin of this peer can give you one that does`,
      { details: { permission } },
    );
  }
}

/** Whether one of the patterns gives a permission, such as `task:read`. */
export function permits(patterns: readonly string[], permission: string): boolean {
  const [noun, verb] = permission.split(':') as [string, string];
  return patterns.some((pattern) => {
    if (pattern === '*' || pattern === permission) return true;
    const [theNoun, theVerb] = pattern.split(':');
    return (theNoun === '*' || theNoun === noun) && (theVerb === '*' || theVerb === verb);
  });
}

/** Whether the patterns let a caller use a tool. */
export function permitsTool(patterns: readonly string[], { name, permission }: { name: string; permission: string }) {
  return patterns.includes(`tool:${name}`) || permits(patterns, permission);
}

/** What the patterns let a caller do with records of others. */
export function othersOf(patterns: readonly string[]): Caller['others'] {
  if (permits(patterns, 'others:write')) return 'write';
  return permits(patterns, 'others:read') ? 'read' : 'none';
}
