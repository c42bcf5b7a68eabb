/**
 * After a partition, a peer brings what it wrote in a line that lost to the owner of the line that stays, root by root
 * (a workflow with everything in it, or a task), and the owner merges it (P5). `merge.ts` decides what becomes of the
 * two histories; this file reads, sends and receives the records of a root.
 */
import type { z } from 'zod';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { carriedBytes } from '../../dag/json.ts';
import { jsonBytes } from '../../dag/limits.ts';
import { ForgedError, HandOverCutError, HandOverFullError, PeerUnreachableError, RootMovesError } from '../errors.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import { rememberedOf } from '../feed/restore.ts';
import { isoTime } from '../ids.ts';
import { KeyedMutex } from '../keyed-mutex.ts';
import {
  ARRIVING_BYTES_MAX,
  ARRIVING_PEER_SHARE,
  ARRIVING_ROOTS_MAX,
  HAND_OVER_BYTES,
  HAND_OVERS_AT_ONCE,
  PAGE_BYTES,
  REQUEST_DEADLINE_MS,
} from '../limits.ts';
import type { LocalRecords } from '../lookup/local-records.ts';
import { carriedRecord, type handoverRequestSchema } from '../messages.ts';
import type { Clock, Log, Network, Reader } from '../ports.ts';
import type { FeedRecord, FlowRecord, Line } from '../records.ts';
import { mustBeOfFeed, mustBeOfRoot } from '../replication/write-guard.ts';
import { type Signatures, signatoriesOf } from '../signatures.ts';
import { aliasOf, type LocalRecord, type Root, withOwnId } from '../storage/aliases.ts';
import { currentLine } from '../storage/feed-lines.ts';
import { recordsOf, rootOf } from '../storage/record-tree.ts';
import { isOpen, isTouched, mergeRoot, type Records, rootIn } from './merge.ts';

interface ReconciliationParts {
  clock: Clock;
  network: Network;
  reader: Reader;
  log: Log;
  records: LocalRecords;
  signatures: Signatures;
  /** A root has its id here from now on; `rival` is the record that this peer had under that id before. */
  onAdopted(root: Root, rival: LocalRecord | undefined): void;
}

/** A root of which some parts have come, but not the last one. */
interface Arriving {
  /** Monotonic: when its latest part came. */
  at: number;
  parts: number;
  records: FlowRecord[];
  bytes: number;
}

/** Tries to read a root unchanged before it is merged as it was read: in a busy one, steps end all the time. */
const MERGE_TRIES_MAX = 8;
const NOTHING: ReadonlySet<string> = new Set();

export class Reconciliation {
  readonly #parts: ReconciliationParts;
  /** Roots whose last part has not come, by peer, feed and uid. */
  readonly #arriving = new Map<string, Arriving>();
  readonly #merging = new KeyedMutex();

  constructor(parts: ReconciliationParts) {
    this.#parts = parts;
  }

  /**
   * Brings every root that was changed here after commit `fork` to the owner of `theirs`. Resolves when all are durable
   * there.
   * @throws PeerUnreachableError, or why the owner refused a part
   */
  async send(mine: FeedRecord, theirs: FeedRecord, fork: number): Promise<void> {
    const { network, reader, log } = this.#parts;
    const { feed_id } = mine;
    const { owner } = currentLine(theirs);
    const roots = new Set<string>();
    for (let after = { seq: fork + 1, uid: '' }; ; ) {
      const rows = await reader.changes(feed_id, after, PAGE_BYTES);
      for (const { record } of rows) {
        const root = await rootOf(reader, record);
        if (root !== null) roots.add(root);
      }
      const last = rows.at(-1);
      if (last === undefined) break;
      after = last;
    }
    log.info({ feed_id, owner, roots: roots.size, fork }, 'another peer owns a feed; what was written here goes there');
    if (roots.size > 0 && !network.connected().includes(owner)) {
      await network.connect(owner, []).catch((error: unknown) => {
        throw new PeerUnreachableError(owner, error);
      });
    }
    // Several at a time: the answer to a root comes only when it is on as many disks as it wants.
    const next = roots.values();
    const inTurn = async () => {
      for (const root of next) await this.#sendRoot(owner, feed_id, currentLine(mine), root);
    };
    await Promise.all(Array.from({ length: HAND_OVERS_AT_ONCE }, inTurn));
  }

  async #sendRoot(owner: string, feed_id: string, line: Line, root_uid: string): Promise<void> {
    const records = await recordsOf(this.#parts.reader, root_uid);
    const superseded = await this.#parts.reader.children('superseded', root_uid);
    let part = 0;
    for (const [ofPart, last] of partsOf([...records, ...superseded])) {
      const message = {
        feed_id,
        line,
        root_uid,
        part,
        last,
        records: ofPart.map(carriedRecord),
      } as unknown as JsonObject;
      await this.#parts.network.request(owner, 'handover', message, REQUEST_DEADLINE_MS);
      part++;
    }
  }

  /**
   * A peer brings one part of a root. Resolves, after the last part, when the merged root is durable here; after any
   * other part at once.
   * @throws HandOverFullError, HandOverCutError, RootMovesError, ForgedError; FlowmeshError INVALID_MESSAGE for records that are not
   *   of this feed or this root
   */
  async receive(
    peer: string,
    feed: OwnedFeed,
    { line, root_uid, part, last, records }: Omit<z.infer<typeof handoverRequestSchema>, 'feed_id'>,
  ): Promise<void> {
    await mustBeOfFeed(this.#parts.reader, feed.feed_id, records);
    this.#forgetGivenUp();
    const key = `${peer} ${feed.feed_id} ${root_uid}`;
    const before = part === 0 ? { parts: 0, records: [], bytes: 0 } : this.#arriving.get(key);
    this.#arriving.delete(key);
    if (before?.parts !== part) throw new HandOverCutError(root_uid);
    const all = [...before.records, ...records];
    if (!last) {
      const bytes = before.bytes + jsonBytes(records as unknown as JsonValue);
      this.#mustHaveRoom(peer, bytes);
      this.#arriving.set(key, { at: this.#parts.clock.now(), parts: part + 1, records: all, bytes });
      return;
    }
    mustBeOfRoot(root_uid, all);
    const signatories = signatoriesOf(feed.feed, line.owner);
    const forged = all.find((record) => this.#parts.signatures.isForged(signatories, record));
    if (forged !== undefined) throw new ForgedError(peer, `${forged.kind} ${forged.uid}`); // P9
    const theirs = new Map(all.map((record) => [record.uid, record]));
    // Several peers may bring the same root, each as it was at another moment.
    const { copied } = await this.#merging.run(root_uid, async () => {
      for (let tries = 1; ; tries++) {
        const isLast = tries >= MERGE_TRIES_MAX;
        const merged = await feed.journal.watching((changed) =>
          this.#merge(feed, { line, root_uid, theirs }, isLast ? NOTHING : changed),
        );
        if (merged === null && isLast) throw new RootMovesError(root_uid);
        await feed.journal.whenWritten(); // not for copies: the followers may be peers that have to hand over first
        if (merged !== null) return merged;
      }
    });
    await copied;
  }

  /** Bounds what half-arrived roots take (P7). @throws HandOverFullError */
  #mustHaveRoom(peer: string, bytes: number): void {
    let [roots, rootsOfPeer, sum, sumOfPeer] = [1, 1, bytes, bytes];
    for (const [key, arriving] of this.#arriving) {
      roots++;
      sum += arriving.bytes;
      if (!key.startsWith(`${peer} `)) continue;
      rootsOfPeer++;
      sumOfPeer += arriving.bytes;
    }
    mustFit('ARRIVING_ROOTS_MAX', roots, ARRIVING_ROOTS_MAX);
    mustFit('ARRIVING_ROOTS_MAX', rootsOfPeer, ARRIVING_ROOTS_MAX * ARRIVING_PEER_SHARE);
    mustFit('ARRIVING_BYTES_MAX', sum, ARRIVING_BYTES_MAX);
    mustFit('ARRIVING_BYTES_MAX', sumOfPeer, ARRIVING_BYTES_MAX * ARRIVING_PEER_SHARE);
  }

  /** A peer is gone: when it is back, it brings its roots from their first part again. */
  forget(peer: string): void {
    for (const key of this.#arriving.keys()) if (key.startsWith(`${peer} `)) this.#arriving.delete(key);
  }

  /** A peer sends each part on the answer to the one before: a root whose parts stop coming was given up. */
  #forgetGivenUp(): void {
    const now = this.#parts.clock.now();
    for (const [key, { at }] of this.#arriving) if (now - at > 2 * REQUEST_DEADLINE_MS) this.#arriving.delete(key);
  }

  /**
   * Reads this side of a root and merges the two.
   * @param changed uids of rows of which the store may not have the newest state
   * @returns null when this side changed while it was read: try again. `copied` resolves when the merged root is on as
   *   many disks as it wants
   */
  async #merge(
    feed: OwnedFeed,
    { line, root_uid: rootUid, theirs }: { line: Line; root_uid: string; theirs: Records },
    changed: ReadonlySet<string>,
  ): Promise<{ copied: Promise<void> } | null> {
    const { reader, clock, records, onAdopted } = this.#parts;
    const mine = new Map((await recordsOf(reader, rootUid)).map((record) => [record.uid, record]));
    const remembered = mine.size > 0 ? null : await rememberedOf([...theirs.values()], records);
    const stored = mine.get(rootUid);
    const other = rootIn(theirs, rootUid);
    const rival = other === undefined ? undefined : await records.find(aliasOf(withOwnId(other)));
    const live = feed.runs.live.get(rootUid)?.record ?? feed.tasks.live.get(rootUid)?.record;
    if (live === undefined && stored !== undefined && isOpen(stored)) return null;
    if (live !== undefined && stored === undefined) return null;
    // `mergeRoot` keeps ends in `mine` as superseded: it has to see those that came while the rows were read.
    if (other !== undefined && !isOpen(other) && isTouched(mine, changed)) return null;
    const sides = { line, rootUid, theirs, mine, root: live ?? stored, remembered, now: isoTime(clock.wall()) };
    const named = feed.journal.turn((turn) => mergeRoot(turn, feed, sides));
    const copied = named.then((root) => {
      if (root !== null) onAdopted(root, rival);
    });
    copied.catch(() => {}); // handled by `receive`, which may get the same error from `whenWritten` first
    return { copied };
  }
}

function mustFit(limit: ConstructorParameters<typeof HandOverFullError>[0], value: number, maximum: number): void {
  if (value > maximum) throw new HandOverFullError(limit, value, maximum);
}

/** Splits records into parts that fit in a message, each with whether it is the last one. */
function* partsOf(records: readonly FlowRecord[]): Iterable<[FlowRecord[], boolean]> {
  let part: FlowRecord[] = [];
  let bytes = 0;
  for (const record of records) {
    const size = carriedBytes(record as unknown as JsonValue);
    if (part.length > 0 && bytes + size > HAND_OVER_BYTES) {
      yield [part, false];
      part = [];
      bytes = 0;
    }
    part.push(record);
    bytes += size;
  }
  yield [part, true];
}
