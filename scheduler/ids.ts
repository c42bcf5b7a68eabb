/**
 * Ids. The ones made here carry the first characters of their feed's id, so that any peer that knows the owner of the
 * feed finds the record without asking around: `wf-<feed>-<random>`, `task-<feed>-<random>`.
 */
import { createHash } from 'node:crypto';
import type { JsonValue } from '../dag/errors.ts';
import type { Random } from './ports.ts';

const FEED_HINT_CHARS = 6;
const RANDOM_CHARS = 12;
const TIME_CHARS = 9;
const UID_CHARS = 20;

export function makeId(prefix: 'wf' | 'task', feedId: string, random: Random): string {
  return `${prefix}-${feedId.slice(0, FEED_HINT_CHARS)}-${random.id(RANDOM_CHARS)}`;
}

/** Begins with the time: rows that are written together lie together in the store, which halves the cost of a commit. */
export function makeUid(random: Random, wall: number): string {
  return wall.toString(32).padStart(TIME_CHARS, '0') + random.id(UID_CHARS - TIME_CHARS);
}

const FEED_ID_CHARS = 20;
const DIGITS = '0123456789abcdefghijklmnopqrstuv';

/** The id of the feed that a peer makes with this nonce: no other peer can say that it has made it. */
export function feedIdOf(owner: string, nonce: string): string {
  const hash = createHash('sha256')
    .update(JSON.stringify(['feed', owner, nonce]))
    .digest();
  return Array.from(hash.subarray(0, FEED_ID_CHARS), (byte) => DIGITS[byte & 31]).join('');
}

const MADE_ID = new RegExp(`^(?:wf|task)-([0-9a-v]{${FEED_HINT_CHARS}})-`);

/** The first characters of the feed that a made id names, or null for an id that a user chose. */
export function feedHintOf(id: string): string | null {
  return MADE_ID.exec(id)?.[1] ?? null;
}

export function feedMatches(feedId: string, hint: string): boolean {
  return feedId.startsWith(hint);
}

/** The same for the same content, whatever the order of its keys: what makes a repeated submit a duplicate. */
export function contentHash(value: JsonValue): string {
  return createHash('sha256').update(canonical(value)).digest('base64url');
}

/** JSON with the names of each object in order; what is undefined is left out. Only names out of order make a copy. */
function canonical(value: JsonValue): string {
  return JSON.stringify(value, (_key, inner: JsonValue) => {
    if (inner === null || typeof inner !== 'object' || Array.isArray(inner)) return inner;
    const names = Object.keys(inner);
    if (names.every((name, at) => at === 0 || names[at - 1]! < name)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

/** Milliseconds since 1970, as people and records have it. Pure formatting: the time itself comes from the clock port. */
export function isoTime(wallMs: number): string {
  // biome-ignore lint/style/noRestrictedGlobals: formats a time that was handed in
  return new Date(wallMs).toISOString();
}

export function wallMs(iso: string): number {
  // biome-ignore lint/style/noRestrictedGlobals: reads a time from a record
  return Date.parse(iso);
}
