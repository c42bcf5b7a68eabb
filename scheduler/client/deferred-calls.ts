/**
 * Calls about records whose feed has no owner now: a cancel, or the answer to a task that waits for a person.
 *
 * 1. A call is kept on the disk of a peer that has a copy of the feed, and so may be the feed's next owner.
 * 2. It runs as soon as the feed has an owner, here or elsewhere, and is forgotten when that owner has answered.
 *    Running a call twice is harmless: a record that has ended refuses it, and stays as it is (P5).
 */
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { type Caller, EVERYBODY, mayChange } from '../caller.ts';
import { InvalidStateError, OwnerUnreachableError, TooManyIntentsError } from '../errors.ts';
import { isoTime } from '../ids.ts';
import { INTENTS_MAX } from '../limits.ts';
import type { LocalRecords } from '../lookup/local-records.ts';
import type { BeatListener } from '../membership/heartbeat.ts';
import type { Alias } from '../messages.ts';
import type { Clock, Log, Reader } from '../ports.ts';
import { type IntentRecord, isTerminal, LOCAL_FEED } from '../records.ts';
import type { LocalFeed } from '../storage/local-feed.ts';
import { intentUid } from '../uids.ts';
import type { ServedCalls } from './served-calls.ts';

interface DeferredCallParts {
  clock: Clock;
  reader: Reader;
  log: Log;
  local: LocalFeed;
  records: Pick<LocalRecords, 'heirOf'>;
  /** Whether a feed has an owner that can be reached: this peer, or a connected one. */
  owners: { isOwned(feedId: string): boolean };
  /** Runs a tool at the peer that owns the record it is about. */
  served: ServedCalls;
}

/** Errors with which the owner has answered for good: the call is not tried again. */
const SETTLED = new Set(['INVALID_STATE', 'NOT_FOUND', 'INVALID_INPUT']);

export class DeferredCalls implements BeatListener {
  readonly #parts: DeferredCallParts;
  readonly #kept = new Map<string, IntentRecord>();
  #doing = false;

  constructor(parts: DeferredCallParts) {
    this.#parts = parts;
  }

  /** Loads the kept calls from the store. */
  async load(): Promise<void> {
    this.#kept.clear();
    for (const intent of await this.#parts.reader.active('intent', LOCAL_FEED)) this.#kept.set(intent.uid, intent);
  }

  /**
   * Keeps a call. Resolves when it is durable, with the status of the record in the copy here.
   *
   * @throws InvalidStateError when the record has ended, TooManyIntentsError, OwnerUnreachableError when this peer
   *   cannot be the record's next owner
   */
  async keep({ kind, id }: Alias, tool: string, input: JsonObject, caller: Caller): Promise<{ status: string }> {
    const { clock, records, local } = this.#parts;
    const record = await records.heirOf({ kind, id });
    if (record === undefined || kind === 'worker' || !mayChange(caller, record))
      throw new OwnerUnreachableError({ kind, id }, 'that is unknown here');
    const { uid, status, feed_id } = record;
    if (isTerminal(status)) throw new InvalidStateError(`${kind} ${id} is ${status} already`, { status });
    const intent: IntentRecord = {
      kind: 'intent',
      uid: intentUid(tool, uid),
      target: { kind, uid, id },
      feed_id,
      tool,
      input,
      ...(caller.id !== null && { caller }),
      created_at: isoTime(clock.wall()),
    };
    if (!this.#kept.has(intent.uid) && this.#kept.size >= INTENTS_MAX) throw new TooManyIntentsError(this.#kept.size);
    this.#kept.set(intent.uid, intent);
    try {
      await local.commit((turn) => turn.put(intent));
    } catch (error) {
      this.#kept.delete(intent.uid);
      throw error;
    }
    return { status };
  }

  /** Called with every beat: runs the kept calls whose feed has an owner, one after the other. */
  onTick(): void {
    const due = [...this.#kept.values()].filter(({ feed_id }) => this.#parts.owners.isOwned(feed_id));
    if (this.#doing || due.length === 0) return;
    this.#doing = true;
    void this.#doAll(due).finally(() => {
      this.#doing = false;
    });
  }

  async #doAll(due: readonly IntentRecord[]): Promise<void> {
    const { served, log } = this.#parts;
    for (const intent of due) {
      const { target, tool, input, caller = EVERYBODY } = intent;
      try {
        await served.run({ tool, input, caller, hops: 1 });
        await this.#forget(intent);
        log.info({ tool, target }, 'what was asked while the owner was away is done');
      } catch (error) {
        const settled = error instanceof FlowmeshError && SETTLED.has(error.code);
        log.info(
          { tool, target, err: error },
          settled ? 'what was asked while the owner was away is refused' : 'later',
        );
        if (settled) await this.#forget(intent).catch(() => {}); // the store failed: once it is read anew, the call runs again
      }
    }
  }

  async #forget({ uid }: IntentRecord): Promise<void> {
    const { clock, local } = this.#parts;
    this.#kept.delete(uid);
    await local.commit((turn) => turn.put({ kind: 'tombstone', uid, cleared_at: isoTime(clock.wall()) }));
  }
}
