import { userInfo } from 'node:os';
import { type Principal, principalOf } from './principal.ts';

/** The user whose peer this is: over stdio, and by the key in `peer.json`, which nobody else can read. */
export function localUser(): Principal {
  return principalOf(`user:${userName()}`, ['*']);
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? 'unknown'); // A user without an entry, as in containers.
  }
}
