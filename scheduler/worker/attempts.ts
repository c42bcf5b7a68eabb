/**
 * One attempt of a task: a lease that a worker of this peer runs. Progress and log lines go from here to the task's
 * owner; the end goes to the pool.
 */
import type { JsonValue } from '../../dag/errors.ts';
import { isoTime } from '../ids.ts';
import { LOG_LINE_CHARS_MAX, LOG_LINES_MAX, PROGRESS_INTERVAL_MS, REQUEST_DEADLINE_MS } from '../limits.ts';
import type { Grant, Lease, LeaseToken } from '../messages.ts';
import type { Clock, ExecutionIO, Executors, Log, Network, WorkedOn } from '../ports.ts';
import type { LogLine, WorkerRecord } from '../records.ts';
import type { Caller } from '../roles.ts';
import { type ActionEnd, type EndedAttempt, keyOf, tokenOf } from './attempt-result.ts';
import { newestLines } from './task-log.ts';

const PROGRESS_MESSAGE_CHARS_MAX = 1_024;

/** A registered worker, and the attempts in its slots. */
export interface WorkerSlots {
  record: WorkerRecord;
  running: Set<Attempt>;
  /** Called when nothing runs any more. */
  idle: Set<() => void>;
  /** How many attempts completed, and failed, since the worker was registered. */
  completed: number;
  failed: number;
}

export interface AttemptParts {
  clock: Clock;
  executors: Executors;
  network: Network;
  log: Log;
  /** The attempt has ended. Called once; no timeout and no report comes after it. */
  onEnded: (attempt: Attempt, end: ActionEnd) => void;
}

/** An attempt, from the moment it takes a slot to its end. */
export class Attempt implements EndedAttempt {
  readonly lease: Lease;
  /** The peer that granted the lease. */
  readonly granted_by: string;
  readonly #caller: Caller;
  /** That peer's signature of the lease, for the next owner of its feed. */
  readonly grant: () => Grant | undefined;
  /** The peer that owns the lease's feed now. */
  owner: string;
  readonly of: WorkerSlots;
  ending: 'cancel' | 'timeout' | 'hand_back' | null = null;
  readonly started: number;
  lines: LogLine[] = [];
  dropped = 0;
  readonly #parts: AttemptParts;
  readonly #abort = new AbortController();
  readonly #gone = Promise.withResolvers<void>();
  #percent: number | null = null;
  #message: string | null = null;
  readonly #cancelTimeout: () => void;
  #cancelReport: (() => void) | null = null;

  /** The timeout counts from now on; the action begins with `start`. */
  constructor(
    parts: AttemptParts,
    lease: Lease,
    { caller, grant }: { caller: Caller; grant: () => Grant | undefined },
    of: WorkerSlots,
  ) {
    this.lease = lease;
    this.granted_by = caller.peer_id;
    this.owner = caller.peer_id;
    this.#caller = caller;
    this.grant = grant;
    this.of = of;
    this.started = parts.clock.now();
    this.#parts = parts;
    this.#cancelTimeout =
      lease.timeout_ms === null ? () => {} : parts.clock.after(lease.timeout_ms, () => this.end('timeout', false));
  }

  get key(): string {
    return keyOf(this.lease);
  }

  get token(): LeaseToken {
    return tokenOf(this.lease);
  }

  /** Noted before work begins: after a crash of this peer's loop, it shows what the loop was working on. */
  get workedOn(): WorkedOn {
    return { ...this.token, owner: this.owner };
  }

  start(): void {
    this.#run().then(
      (output) => this.#ended({ output }),
      (thrown: unknown) => this.#ended({ thrown }),
    );
  }

  /** Also rejects with what is thrown while the action is being started. */
  async #run(): Promise<JsonValue> {
    const { uid, attempt, action, payload } = this.lease;
    return await this.#parts.executors.run({ uid, attempt, action, payload, caller: this.#caller }, this.#io());
  }

  #io(): ExecutionIO {
    return {
      signal: this.#abort.signal,
      progress: (percent, message) => {
        if (Number.isFinite(percent)) this.#percent = Math.min(Math.max(percent, 0), 100);
        if (typeof message === 'string') this.#message = message.slice(0, PROGRESS_MESSAGE_CHARS_MAX);
        this.#reportLater();
      },
      log: (stream, line) => {
        if (this.lines.length >= LOG_LINES_MAX) {
          this.lines.shift();
          this.dropped++;
        }
        const at = isoTime(this.#parts.clock.wall());
        const kept = String(line).slice(0, LOG_LINE_CHARS_MAX);
        this.lines.push({ at, attempt: this.lease.attempt, stream, line: kept });
        this.#reportLater();
      },
    };
  }

  /** Everything that is reported within PROGRESS_INTERVAL_MS goes to the owner in one message. */
  #reportLater(): void {
    this.#cancelReport ??= this.#parts.clock.after(PROGRESS_INTERVAL_MS, () => {
      this.#cancelReport = null;
      const { lines, dropped } = newestLines(this.lines);
      this.lines = [];
      this.dropped += dropped;
      this.#parts.network.notify(this.owner, 'progress', {
        items: [{ ...this.token, percent: this.#percent, message: this.#message, lines }],
      });
    });
  }

  /**
   * Asks the action to end before its time. The first reason counts.
   * @param force true when the action gets no time to end by itself
   */
  end(why: 'cancel' | 'timeout' | 'hand_back', force: boolean): void {
    this.ending ??= why;
    this.#abort.abort({ force });
  }

  #ended(end: ActionEnd): void {
    this.#cancelTimeout();
    this.#cancelReport?.();
    this.#parts.onEnded(this, end);
  }

  /** Tells the owner that the attempt was ended here and may run elsewhere. */
  tellHandedBack(): void {
    const { owner, lease } = this;
    const items = [{ ...this.token, reason: 'handed_back' as const, message: `worker ${lease.worker_id} left` }];
    this.#parts.network
      .request(owner, 'refuse', { items }, REQUEST_DEADLINE_MS)
      .catch((cause: unknown) => {
        // The owner notices by the beats that this lease is gone.
        this.#parts.log.warn({ owner, cause }, 'a lease could not be handed back');
      })
      .then(() => this.#gone.resolve());
  }

  /** The outbox keeps the result from now on: nothing has to wait for the attempt any more. */
  resultKept(): void {
    this.#gone.resolve();
  }

  /** Resolves when the attempt has ended and, if it was handed back, its owner has answered or failed to. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  /** Ends the attempt, so that the task can run elsewhere. Resolves as `gone` does. */
  handBack(): Promise<void> {
    this.end('hand_back', false);
    return this.gone;
  }
}
