/**
 * What this peer's policy allows of its actions, and what a task needs of it, in words that other peers understand:
 * `shell:<program>`, `http:<host>`, `http-private`. So a task is given to a peer that may run it. The settings themselves
 * have the last word where the task runs (`policy.ts`, `shell-command.ts`, `address-policy.ts`).
 */
import ipaddr from 'ipaddr.js';
import type { JsonObject } from '../../dag/errors.ts';
import { hostNamed, isPublicAddress } from './address-policy.ts';
import type { ExecutorConfig } from './executor-config.ts';

/** Addresses that are not public. */
export const PRIVATE = 'http-private';
/** A longer address is left to where it is used. */
const URL_READ_CHARS_MAX = 8_192;

interface Allowing {
  shell: Pick<ExecutorConfig['shell'], 'allow'>;
  http_action: ExecutorConfig['http_action'];
}

/** `shell:*` is every program, `http:*` every host. */
export function allowancesOf({ shell, http_action }: Allowing): string[] {
  const hosts = http_action.allow.length === 0 ? ['*'] : http_action.allow.map((host) => host.toLowerCase());
  const allowed = [...shell.allow.map((program) => `shell:${program}`), ...hosts.map((host) => `http:${host}`)];
  return http_action.private ? [...allowed, PRIVATE] : allowed;
}

/** Nothing of a payload that its action will refuse: that is found where it runs, and said there. */
export function needsOf(action: string, payload: JsonObject): string[] {
  if (action === 'shell') {
    const program = Array.isArray(payload['command']) ? payload['command'][0] : undefined;
    return typeof program === 'string' && program !== '' ? [`shell:${program}`] : [];
  }
  if (action !== 'http') return [];
  const { url: text } = payload;
  const url = typeof text === 'string' && text.length <= URL_READ_CHARS_MAX ? URL.parse(text) : null;
  if (url === null || url.hostname === '') return [];
  const host = hostNamed(url.hostname);
  return isPrivate(host) ? [`http:${host}`, PRIVATE] : [`http:${host}`];
}

/** By its name alone: what another name resolves to is seen where the connection is opened. */
function isPrivate(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || (ipaddr.isValid(host) && !isPublicAddress(host));
}
