/**
 * What liars had a hand in, and so what is promised of it. Four things, and nothing else, are not promised to clients
 * of honest peers:
 *
 * 1. of a task that an honest owner leased to a liar: what comes of it, and of the workflow that it is in;
 * 2. of a feed that has a liar in its replica set, as its honest owner chose: what becomes of it. A member may take the
 *    feed over, that is what it is there for. What was signed stays as it is all the same;
 * 3. of an id that a liar has claimed: whose it is;
 * 4. of what waits for a record of 2 or 3 (`depends_on`, `dependencies`): that it begins. Once the liar is gone, nobody
 *    may have a record with that id, and what waits for it is not to go on as if it had ended well. Whatever else is
 *    promised of it holds.
 */
import { isDeepStrictEqual } from 'node:util';
import type { JsonValue } from '../../dag/errors.ts';
import { feedIdOf } from '../../scheduler/ids.ts';
import { type FeedRecord, isTerminal, type Row, type TaskRecord } from '../../scheduler/records.ts';
import { idOf, type Root, withOwnId } from '../../scheduler/storage/aliases.ts';
import { currentLine } from '../../scheduler/storage/feed-lines.ts';
import { containerUid } from '../../scheduler/uids.ts';
import { entry } from './entry.ts';
import type { LieWatch } from './liar.ts';
import type { SimulatedMesh } from './mesh.ts';

export class LieLedger implements LieWatch {
  readonly #broken: (message: string) => void;
  #mesh: SimulatedMesh | null = null;
  /** Feeds that a liar made, or whose honest owner has named a liar as its follower. */
  readonly #shared = new Set<string>();
  /** Uids of tasks that a liar was leased. */
  readonly #leased = new Set<string>();
  /** Uids of workflows and tasks with such a task in them. */
  readonly #touched = new Set<string>();
  /** By kind and id. */
  readonly #claimed = new Set<string>();
  /** By uid of a workflow or task of a client: its feed. */
  readonly #feedOf = new Map<string, string>();
  /** By kind and id: uids of the workflows and tasks that had it. */
  readonly #uidsOf = new Map<string, Set<string>>();
  /** By uid of a workflow or task: kind and id of each that it waits for. */
  readonly #awaited = new Map<string, string[]>();
  /** By uid of a nested workflow: that in which its task is. */
  readonly #within = new Map<string, string>();
  /** By peer and uid: what that peer has signed. */
  readonly #made = new Map<string, JsonValue>();

  constructor(broken: (message: string) => void) {
    this.#broken = broken;
  }

  watch(mesh: SimulatedMesh): void {
    this.#mesh = mesh;
  }

  // --- what liars do -------------------------------------------------------------------------------------------------

  idClaimed(kind: string, id: string): void {
    this.#claimed.add(`${kind} ${id}`);
  }

  leased(uid: string): void {
    this.#leased.add(uid);
    this.#touched.add(containerUid(uid));
  }

  // --- what honest peers do ------------------------------------------------------------------------------------------

  /** An honest peer hands rows to its store. */
  committing(peer: string, rows: readonly Row[]): void {
    for (const { record, feed_id } of rows) {
      if (record.kind !== 'feed') continue;
      const { owner } = currentLine(record);
      const [first] = record.lines;
      if (this.#isLiar(first!.owner) && feedIdOf(first!.owner, first!.nonce) === feed_id) this.#shared.add(feed_id);
      if (owner === peer && record.followers.some(({ peer_id }) => this.#isLiar(peer_id))) this.#shared.add(feed_id);
      const usurper = record.lines.find((line) => this.#isLiar(line.owner));
      if (usurper === undefined || this.#shared.has(feed_id)) continue;
      this.#broken(`P9: ${peer} takes feed ${feed_id} as that of ${usurper.owner}, which was never in its replica set`);
    }
  }

  /** Rows are on the disk of an honest peer. */
  synced(peer: string, rows: readonly Row[], feed: FeedRecord | undefined): void {
    for (const { record, feed_id, epoch } of rows) {
      this.#feedOf.set(containerUid(record.uid), feed_id);
      if (record.kind === 'task' || record.kind === 'workflow') this.#isNamed(withOwnId(record));
      if (record.kind === 'workflow' && record.parent_task_uid !== null) {
        this.#within.set(record.uid, containerUid(record.parent_task_uid));
      }
      const owner = feed?.lines.find((line) => line.epoch === epoch)?.owner;
      if (owner !== undefined && this.#isLiar(owner)) continue; // it is believed about its own line
      if (record.kind === 'definition') this.#isAsMade(peer, record.uid, record.signed?.by, record.workflow);
      if (record.kind !== 'task') continue;
      if (record.signed !== undefined) this.#isAsMade(peer, record.uid, record.signed.by, record.payload);
      if (isTerminal(record.status)) this.#isWorkersWord(peer, record, feed_id);
    }
  }

  #isNamed(root: Root): void {
    const awaited = root.kind === 'task' ? root.depends_on : root.dependencies;
    entry(this.#uidsOf, `${root.kind} ${idOf(root)}`, () => new Set()).add(root.uid);
    if (awaited.length > 0) entry(this.#awaited, root.uid, () => awaited.map((each) => `${root.kind} ${each}`));
  }

  /** What is signed is what its maker wrote. */
  #isAsMade(peer: string, uid: string, by: string | undefined, content: unknown): void {
    if (by === undefined || this.#isLiar(by)) return;
    const key = `${by} ${uid}`;
    if (by === peer) entry(this.#made, key, () => content as JsonValue);
    if (isDeepStrictEqual(this.#made.get(key), content)) return;
    this.#broken(`P9: ${peer} has ${uid} as made by ${by}, which made another one, or none`);
  }

  /** What a worker is said to have reported is what its action gave. */
  #isWorkersWord(peer: string, record: TaskRecord, feedId: string): void {
    const { uid, peer_id, task_type, status, output, signed_result } = record;
    if (peer_id === null) return;
    if (this.#isLiar(peer_id)) {
      // It may know of the lease before it has it.
      if (record.placement?.chosen?.peer_id === peer_id) this.leased(uid);
      if (status !== 'completed' || this.#leased.has(uid) || this.#shared.has(feedId)) return;
      this.#broken(`P9: ${peer} has a result of ${uid} from ${peer_id}, which never had a lease of it`);
      return;
    }
    if (signed_result?.by !== peer_id || status !== 'completed' || !task_type.startsWith('fn:')) return;
    const starts = this.#mesh!.actions.startsOf(uid);
    if (starts.some((start) => start.peer === peer_id && isDeepStrictEqual(start.output, output))) return;
    this.#broken(`P9: ${peer} has a result of ${uid} that ${peer_id} never gave`);
  }

  #isLiar(peer: string): boolean {
    return this.#mesh!.liars.has(peer);
  }

  // --- what is promised ----------------------------------------------------------------------------------------------

  /** A liar is, or was, in the replica set of this feed. */
  isShared(feedId: string): boolean {
    return this.#shared.has(feedId);
  }

  /** A record, or what it is in, lies in such a feed. */
  isInShared(uid: string): boolean {
    const feedId = this.#feedOf.get(containerUid(uid));
    return feedId !== undefined && this.#shared.has(feedId);
  }

  isClaimed(kind: string, id: string): boolean {
    return this.#claimed.has(`${kind} ${id}`);
  }

  /** It waits for one of which nothing is promised, or for one that does. */
  mayWaitForEver(uid: string): boolean {
    return (this.#awaited.get(containerUid(uid)) ?? []).some((name) => {
      const awaited = [...(this.#uidsOf.get(name) ?? [])];
      return this.#claimed.has(name) || awaited.some((each) => this.isInShared(each) || this.mayWaitForEver(each));
    });
  }

  /** A part of the work of this workflow or task was leased to a liar. */
  isTouched(uid: string): boolean {
    const root = containerUid(uid);
    return (
      this.#touched.has(root) || [...this.#within].some(([inner, outer]) => outer === root && this.isTouched(inner))
    );
  }

  get hasShared(): boolean {
    return this.#shared.size > 0;
  }
}
