/**
 * Promises taken out of the source, one at a time: with each of them the simulation has to find a broken promise, or it
 * could not tell whether the promise is kept. What it would hardly miss, a test of its own holds (`HELD_BY_TESTS`).
 * `mutations.test.ts` runs them all.
 */
import type { FaultKind } from './fault-plan.ts';

export interface Mutation {
  /** What is taken out. */
  name: string;
  /** From the top folder. */
  file: string;
  /** Is in the file exactly once. */
  find: string;
  replace: string;
  /** What it keeps (docs/guarantees.md). */
  promise: string;
  /** Faults without which it is hardly missed. */
  favoured?: readonly FaultKind[];
  /** Seeds are tried from here on, where the first ones are known to miss nothing. Default: 1. */
  from?: number;
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'fsync before effects',
    file: 'scheduler/storage/journal.ts',
    find: 'this.#store.commit(rows).then(',
    replace: 'this.#store.commit(rows).catch(() => {});\n    Promise.resolve().then(',
    promise: 'P1',
    favoured: ['crash'],
  },
  {
    name: "a follower's fsync before it acknowledges",
    file: 'scheduler/replication/follower.ts',
    find: 'await durable;\n    this.announced(push.feed_id, push.line);',
    replace: 'durable.catch(() => {});\n    this.announced(push.feed_id, push.line);',
    promise: 'P1',
    favoured: ['slow peer'],
  },
  {
    name: 'a follower takes a commit only after those before it',
    file: 'scheduler/replication/follower.ts',
    find: 'if (order === 0 && rows.length > 0 && prev_seq <= copy!.cursor) {',
    replace: 'if (order === 0 && rows.length > 0) {',
    promise: 'P1',
    favoured: ['loss'],
  },
  {
    name: 'a page never splits a commit',
    file: 'scheduler/replication/follower.ts',
    find: 'const cut = answer.whole ? rows.length : rows.findIndex(({ seq }) => seq === rows.at(-1)!.seq);',
    replace: 'const cut = rows.length;',
    from: 7,
    promise: 'P1',
    favoured: ['large rows', 'join', 'loss'],
  },
  {
    name: 'a copy counts only when it may be used',
    file: 'scheduler/replication/replica-set.ts',
    find: 'return syncedAt !== null && acked >= Math.max(seq, syncedAt);',
    replace: 'return acked >= seq;',
    promise: 'P1',
    favoured: ['join', 'lost disk'],
  },
  {
    name: 'a taker asks the others how far they are',
    file: 'scheduler/ownership/takeover.ts',
    find: 'for (const peer_id of await this.#furtherOf(followed.find(feedId)!)) {',
    replace: 'for (const peer_id of [] as string[]) {',
    from: 5,
    promise: 'P2',
    favoured: ['partition', 'lost disk'],
  },
  {
    name: 'an owner that comes before is refused',
    file: 'scheduler/replication/follower.ts',
    find: 'const order = known === null ? 1 : compareLines(line, known);',
    replace: 'const order = known === null ? 1 : Math.max(compareLines(line, known), 0);',
    from: 55,
    promise: 'P2',
    favoured: ['mute', 'hold'],
  },
  {
    name: 'an owner that starts asks its replica set',
    file: 'scheduler/ownership/ownership.ts',
    find: 'if (copy.feed.followers.length === 0 && followed.isComplete(copy)) alone.push(copy);',
    replace: 'alone.push(copy);',
    from: 28,
    promise: 'P2',
    favoured: ['old disk', 'long work'],
  },
  {
    name: 'lease token check',
    file: 'scheduler/task/transitions.ts',
    find: 'if (!isNamedBy(lease, feed_id, peer, result)) return false;',
    replace: 'if (lease === null) return false;',
    promise: 'P3',
    favoured: ['hold', 'cut'],
  },
  {
    name: 'late failure refused',
    file: 'scheduler/task/transitions.ts',
    find: "if (!current && (result.status !== 'completed' || !isUsable(record, peer, result, owner, granted))) return STALE;",
    replace: 'if (!current && !isUsable(record, peer, result, owner, granted)) return STALE;',
    promise: 'P3',
    favoured: ['mute', 'cut', 'long work'],
  },
  {
    name: 'worker keeps its result until acknowledged',
    file: 'scheduler/worker/result-outbox.ts',
    find: 'for (const [, kept] of entries) if (kept.owner === owner) kept.sending = null;',
    replace: 'for (const [key] of entries) this.#delete(key);',
    promise: 'P3',
    favoured: ['loss'],
  },
  {
    name: 'at_most_once guard',
    file: 'scheduler/task/transitions.ts',
    find: 'const mayRepeat = !record.at_most_once && lost_attempts < LOST_ATTEMPTS_MAX; // P4',
    replace: 'const mayRepeat = lost_attempts < LOST_ATTEMPTS_MAX;',
    promise: 'P4',
    favoured: ['crash'],
  },
  {
    name: 'at_most_once in a feed that was passed on',
    file: 'scheduler/task/tasks.ts',
    find: 'if (record.at_most_once && this.#feed.passed_on) {',
    replace: "if (record.at_most_once && this.#feed.feed_id === '') {",
    from: 6,
    promise: 'P4',
    favoured: ['partition', 'long work'],
  },
  {
    name: 'copies hear of what was removed',
    file: 'scheduler/replication/follower.ts',
    find: 'const rows = withRows ? await reader.changes(feed_id, after, PAGE_BYTES) : [];',
    replace:
      "const rows = (await reader.changes(feed_id, after, PAGE_BYTES)).filter(({ record }) => record.kind !== 'tombstone');",
    from: 23,
    promise: 'P1',
    favoured: ['clear', 'loss'],
  },
  {
    name: 'nothing is written after a sleep before the others were heard',
    file: 'scheduler/ownership/inquiry.ts',
    find: 'feed.journal.freeze();',
    replace: '',
    promise: 'P11',
    favoured: ['hold'],
  },
  {
    name: 'what has ended beats what has not',
    file: 'scheduler/partition/merge.ts',
    find: 'if (isOpen(root) && (isOpen(other) || gaveUp(other))) {',
    replace: 'if (isOpen(root)) {',
    from: 15,
    promise: 'P5',
    favoured: ['partition', 'long work', 'cancel'],
  },
  {
    name: 'who takes a feed over was named as its heir',
    file: 'scheduler/signatures.ts',
    find: 'return this.#signer.verify(before.owner, warrantText(feed, before, line.owner), line.warrant);',
    replace: 'return true;',
    promise: 'P9',
    favoured: ['liar'],
  },
  {
    name: 'rows come from a member of the replica set',
    file: 'scheduler/replication/follower.ts',
    find: 'if (!members(feed).has(peer)) throw',
    replace: "if (peer === '') throw",
    promise: 'P9',
    favoured: ['liar', 'loss'],
  },
  {
    name: 'a lease that another owner gave is signed by that owner',
    file: 'scheduler/task/transitions.ts',
    find: 'return (holder === undefined || feed.ownerIn(epoch) !== granted_by) && isGranted();',
    replace: 'return holder === undefined || feed.ownerIn(epoch) !== granted_by;',
    from: 25,
    promise: 'P9',
    favoured: ['liar', 'crash'],
  },
  {
    name: 'what is handed over is signed by who made it',
    file: 'scheduler/partition/reconcile.ts',
    find: 'if (forged !== undefined) throw new ForgedError(peer, `${forged.kind} ${forged.uid}`); // P9',
    replace: '',
    promise: 'P9',
    favoured: ['liar', 'three copies'],
  },
];

interface HeldByTest extends Mutation {
  /** The file with the test, from the top folder. */
  test: string;
  /** Is in the name of the test. */
  named: string;
}

/**
 * What the simulation would hardly miss: no promise to a client depends on it there, or its liars do not lie so well.
 * Each with a test that fails without it.
 */
export const HELD_BY_TESTS: readonly HeldByTest[] = [
  {
    name: 'a method is for peers with its roles',
    file: 'scheduler/inbound.ts',
    find: 'mustBeAllowed(method, peer, self, membershipOf);',
    replace: '',
    promise: 'P9',
    test: 'test/scheduler/roles.test.ts',
    named: 'from a peer without the role is FORBIDDEN',
  },
  {
    name: 'the id of a feed is that of the peer that made it',
    file: 'scheduler/signatures.ts',
    find: 'if (!isBound && unsigned_to_seq === 0) return feed.signed === undefined;',
    replace: 'if (!isBound && unsigned_to_seq === 0) return true;',
    promise: 'P9',
    test: 'test/scheduler/signatures.test.ts',
    named: 'of who owned it is lawful from the peer that made it on',
  },
  {
    name: 'a row of another peer is checked against its whole schema',
    file: 'scheduler/messages.ts',
    find: 'const parsed = recordSchema.safeParse(record);\n  if (parsed.success) return record as FlowRecord;',
    replace:
      'const parsed = recordSchema.safeParse(record);\n  if (parsed.success || parsed.error) return record as FlowRecord;',
    promise: 'P9',
    test: 'test/scheduler/replication/write-guard.test.ts',
    named: 'is refused, and none of its commit is kept',
  },
  {
    name: 'a frame of results is signed by the worker that brings it',
    file: 'scheduler/signatures.ts',
    find: 'if (!isOwn && !this.#signer.verify(worker, frameText(rootOf(tree)), signature)) return null;',
    replace: '',
    promise: 'P9',
    test: 'test/scheduler/signatures.test.ts',
    named: 'as results counts only with the signature of the worker that brings them',
  },
  {
    name: 'what a follower copies is signed by who made it',
    file: 'scheduler/replication/follower.ts',
    find: 'if (!own.has(epoch) && this.#signatures.isForged(signatories, record, seq))',
    replace: "if (peer === '')",
    promise: 'P9',
    test: 'test/scheduler/signatures.test.ts',
    named: 'is not kept, and that follower is asked no more',
  },
];

export function mutationNamed(name: string): Mutation {
  const mutation = MUTATIONS.find((each) => each.name === name);
  if (mutation !== undefined) return mutation;
  throw new Error(`there is no mutation "${name}": ${MUTATIONS.map((each) => each.name).join(', ')}`);
}
