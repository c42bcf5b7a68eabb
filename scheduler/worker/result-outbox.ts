/**
 * Results of attempts that ended here, until their owners have acknowledged them (P3). Sent at once, and again with
 * every beat. A result that can never be sent does not hold up others: a frame that an owner cannot take is taken
 * apart, and when there is no room left, results of owners that are away are forgotten, the oldest first (P7).
 */
import { errorShape, FlowmeshError } from '../../dag/errors.ts';
import { jsonBytes } from '../../dag/limits.ts';
import { requiresSchema } from '../../dag/schema.ts';
import type { Probe } from '../crash-points.ts';
import { contentHash } from '../ids.ts';
import {
  KEPT_RESULTS_BYTES,
  KEPT_RESULTS_MAX,
  KEPT_RESULTS_OWNER_SHARE,
  REQUEST_DEADLINE_MS,
  RESULT_BATCH_BYTES,
  RESULT_BATCH_MAX,
} from '../limits.ts';
import type { AttemptResult, Grant, Lease, LeaseToken } from '../messages.ts';
import type { Clock, CrashedLease, Crashes, LeaseWatch, Log, Network } from '../ports.ts';
import type { Signatures } from '../signatures.ts';
import { keyOf, tokenOf } from './attempt-result.ts';

interface KeptResult {
  lease: Lease;
  granted_by: string;
  grant: () => Grant | undefined;
  owner: string;
  result: AttemptResult;
  bytes: number;
  /** Settles when the owner has answered or failed to; null while the result is not on its way. Never rejects. */
  sending: Promise<void> | null;
  /** Its owner refused a frame that had this result, for content or size: it is sent in a frame of its own. */
  alone: boolean;
}

type Entry = [key: string, kept: KeptResult];

const NOTHING_REQUIRED = requiresSchema.parse({});
/** Codes with which an owner would refuse the same frame again, for its content or size. */
const REFUSED_FOR_GOOD = new Set(['INVALID_MESSAGE', 'MESSAGE_TOO_LARGE']);

function isFull(count: number, bytes: number, share: number): boolean {
  return count >= share * KEPT_RESULTS_MAX || bytes >= share * KEPT_RESULTS_BYTES;
}

/** The outbox of one peer's results. */
export class ResultOutbox {
  readonly #clock: Clock;
  readonly #network: Network;
  readonly #log: Log;
  readonly #probe: Probe;
  readonly #watch: LeaseWatch;
  readonly #crashes: Crashes;
  readonly #signatures: Signatures;
  readonly #kept = new Map<string, KeptResult>();
  #bytes = 0;
  #sendDeferred = false;

  constructor(components: {
    clock: Clock;
    network: Network;
    log: Log;
    probe: Probe;
    watch: LeaseWatch;
    crashes: Crashes;
    signatures: Signatures;
  }) {
    this.#clock = components.clock;
    this.#network = components.network;
    this.#log = components.log;
    this.#probe = components.probe;
    this.#watch = components.watch;
    this.#crashes = components.crashes;
    this.#signatures = components.signatures;
  }

  /** @param key of the lease (`keyOf`) */
  has(key: string): boolean {
    return this.#kept.has(key);
  }

  /** The results kept for one owner. */
  *of(owner: string): Iterable<LeaseToken> {
    for (const kept of this.#kept.values()) if (kept.owner === owner) yield kept.result;
  }

  /** The results kept for all owners. */
  *all(): Iterable<LeaseToken> {
    for (const { result } of this.#kept.values()) yield result;
  }

  /** Of each result of a feed: the peer that it goes to, and the one that gave the lease. */
  *sourcesOf(feedId: string): Iterable<readonly [owner: string, grantedBy: string]> {
    for (const { result, owner, granted_by } of this.#kept.values()) {
      if (result.feed_id === feedId) yield [owner, granted_by];
    }
  }

  /** Sends the results of a feed to another owner from now on; true when there are any. */
  reassign(feedId: string, owner: string): boolean {
    let any = false;
    for (const kept of this.#kept.values()) {
      if (kept.result.feed_id !== feedId || kept.owner === owner) continue;
      this.#bring(kept, owner);
      any = true;
    }
    return any;
  }

  /** An owner that did not grant the lease is told who did, and with which payload it ran (P3). */
  #bring(kept: KeptResult, owner: string): void {
    const { granted_by: _by, payload_hash: _hash, grant: _grant, ...result } = kept.result;
    const { granted_by, lease } = kept;
    const grant = kept.grant();
    const known = { granted_by, payload_hash: contentHash(lease.payload), ...(grant !== undefined && { grant }) };
    const origin = granted_by === owner ? {} : known;
    kept.owner = owner;
    kept.result = { ...result, ...origin };
    kept.sending = null;
  }

  /**
   * Whether there is room for the result of another attempt of an owner. To make room, results of owners that are away
   * are forgotten; false when those of connected owners alone take all of it, or its own more than an owner's share.
   */
  hasRoom(owner: string): boolean {
    if (!this.#isFull(KEPT_RESULTS_OWNER_SHARE)) return true;
    if (this.#hasShare(owner)) return false;
    if (!this.#isFull()) return true;
    const present = new Set([this.#network.self, ...this.#network.connected()]);
    for (const [key, { owner, result }] of this.#kept) {
      if (present.has(owner)) continue;
      this.#log.warn({ owner, uid: result.uid }, 'a result is forgotten: there is no room and its owner is away');
      this.#delete(key);
      if (!this.#isFull()) return true;
    }
    return false;
  }

  #isFull(share = 1): boolean {
    return isFull(this.#kept.size, this.#bytes, share);
  }

  /** Whether the results for one owner take an owner's share of the room. */
  #hasShare(owner: string): boolean {
    let count = 0;
    let sum = 0;
    for (const kept of this.#kept.values()) {
      if (kept.owner !== owner) continue;
      count++;
      sum += kept.bytes;
    }
    return isFull(count, sum, KEPT_RESULTS_OWNER_SHARE);
  }

  /** Tells an owner that the loop of this peer's last process, or thread, crashed while it worked on a lease. */
  keepCrash({ owner, crash, ...token }: CrashedLease): void {
    const message = 'the mesh loop of its peer crashed while it worked on this attempt';
    const result: AttemptResult = {
      ...token,
      status: 'failed',
      output: null,
      error: { code: 'MESH_CRASHED', message, retryable: true },
      execution_time_ms: 0,
      lines: [],
      dropped_lines: 0,
      crash,
    };
    const lease = { ...token, worker_id: '', action: '', payload: {}, requires: NOTHING_REQUIRED, timeout_ms: null };
    this.keep(lease, { granted_by: owner, owner }, result, message.length);
  }

  /** Keeps a result, and sends it soon. @param bytes roughly how large it is in a frame */
  keep(
    lease: Lease,
    who: { granted_by: string; owner: string; grant?: () => Grant | undefined },
    result: AttemptResult,
    bytes: number,
  ): void {
    const { granted_by, owner, grant = () => undefined } = who;
    const all = bytes + jsonBytes(lease.payload);
    const kept: KeptResult = { lease, granted_by, grant, owner, result, bytes: all, sending: null, alone: false };
    if (granted_by !== owner) this.#bring(kept, owner);
    this.#kept.set(keyOf(lease), kept);
    this.#bytes += all;
    if (this.#sendDeferred) return;
    this.#sendDeferred = true;
    this.#clock.defer(() => {
      this.#sendDeferred = false;
      this.send();
    });
  }

  /** Drops a result that its owner does not want. Does nothing when `owner` is not its owner. */
  drop(key: string, owner: string): void {
    if (this.#kept.get(key)?.owner === owner) this.#delete(key);
  }

  #delete(key: string): void {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    this.#kept.delete(key);
    this.#bytes -= kept.bytes;
    const token = tokenOf(kept.lease);
    this.#watch.over([token]);
    if (kept.result.crash !== undefined) this.#crashes.told(token);
  }

  /** Sends every result that is not on its way. */
  send(): void {
    const frames = new Map<string, { entries: Entry[]; bytes: number }[]>();
    for (const entry of this.#kept) {
      const { owner, sending, alone, bytes, result } = entry[1];
      if (sending !== null) continue;
      if (alone) {
        this.#sendFrame(owner, [entry]);
        continue;
      }
      // A frame has results of one feed: an owner that has given up one of its feeds still takes results of the others.
      const to = `${owner} ${result.feed_id}`;
      const ofOwner = frames.get(to) ?? [];
      frames.set(to, ofOwner);
      let last = ofOwner.at(-1);
      if (last === undefined || last.bytes + bytes > RESULT_BATCH_BYTES || last.entries.length >= RESULT_BATCH_MAX) {
        last = { entries: [], bytes: 0 };
        ofOwner.push(last);
      }
      last.entries.push(entry);
      last.bytes += bytes;
    }
    for (const ofOwner of frames.values()) {
      for (const { entries } of ofOwner) this.#sendFrame(entries[0]![1].owner, entries);
    }
  }

  #sendFrame(owner: string, entries: Entry[]): void {
    const results = entries.map(([, kept]) => kept.result);
    const frame = { results, ...this.#signatures.frame(results) };
    const sending = this.#network.request(owner, 'result', frame, REQUEST_DEADLINE_MS).then(
      () => {
        this.#probe('result:after');
        for (const [key, kept] of entries) if (this.#kept.get(key) === kept && kept.owner === owner) this.#delete(key); // P3
      },
      (cause: unknown) => {
        for (const [, kept] of entries) if (kept.owner === owner) kept.sending = null;
        this.#watch.over(entries.map(([, { lease }]) => tokenOf(lease)));
        if (cause instanceof FlowmeshError && REFUSED_FOR_GOOD.has(cause.code)) this.#takeApart(entries, cause);
        else this.#log.debug({ owner, cause }, 'results are kept until their owner answers');
      },
    );
    for (const [, kept] of entries) kept.sending = sending;
  }

  /** The owner cannot take one of these results: each is sent alone, and becomes a failure when refused again. */
  #takeApart(entries: Entry[], cause: FlowmeshError): void {
    for (const [key, kept] of entries) {
      if (this.#kept.get(key) !== kept) continue;
      if (!kept.alone) {
        kept.alone = true;
        continue;
      }
      this.#log.warn({ owner: kept.owner, uid: kept.result.uid, err: cause }, 'an owner cannot take a result');
      const error = {
        code: 'RESULT_REFUSED',
        message: `its owner cannot take the result of this attempt: ${errorShape(cause).message.slice(0, 1_024)}`,
        retryable: false,
      };
      const { lines, dropped_lines } = kept.result;
      kept.result = {
        ...kept.result,
        status: 'failed',
        output: null,
        error,
        lines: [],
        dropped_lines: dropped_lines + lines.length,
      };
    }
    this.#clock.defer(() => this.send());
  }

  /** Resolves when all that is on its way now was answered, or could not be. */
  async answered(): Promise<void> {
    await Promise.all([...this.#kept.values()].map(({ sending }) => sending));
  }
}
