/**
 * Gives the waiting tasks of one feed to workers. Runs at most once per event-loop turn, inside the commit of that
 * turn.
 *
 * 1. Connected workers come first: neither the DHT nor gossip is asked while one of them has a slot.
 * 2. The lease of an ordinary task is sent as soon as the task itself is durable; the lease of an `at_most_once` task
 *    only once the lease is durable, too (P1).
 * 3. A task for which no connected worker has a free slot is offered by gossip. If none can run it at all, the DHT is
 *    asked for one, too.
 */

import { InvalidInputsError, parseInputs } from '../../dag/action-inputs.ts';
import { RECORD_ACTIONS } from '../../dag/actions.ts';
import type { JsonObject } from '../../dag/errors.ts';
import { FlowmeshError } from '../../dag/errors.ts';
import { carriedBytes } from '../../dag/json.ts';
import { capabilitiesToLookUp } from '../capabilities.ts';
import type { Probe } from '../crash-points.ts';
import {
  BEAT_INTERVAL_MS,
  BEATS_LATE_MAX,
  DISPATCH_CLASSES_MAX,
  DISPATCH_TASKS_MAX,
  LEASE_BATCH_BYTES,
  LEASE_BATCH_MAX,
  REQUEST_DEADLINE_MS,
} from '../limits.ts';
import type { Candidate, PeerTable } from '../membership/peer-table.ts';
import { type Lease, refuseRequestSchema } from '../messages.ts';
import type { Clock, Log, Network, Random } from '../ports.ts';
import type { Placement } from '../records.ts';
import type { Signatures } from '../signatures.ts';
import type { FeedWriter, Turn } from '../storage/journal.ts';
import type { Attempts } from '../task/attempts.ts';
import type { LiveTask } from '../task/live-task.ts';
import { type ClassHead, compareQueueKeys, type Nobody, type QueueKey, type TaskClass } from '../task/queue.ts';
import type { Tasks } from '../task/tasks.ts';
import type { Why } from '../waiting.ts';
import type { Refusal, WorkerPool } from '../worker/worker-pool.ts';
import type { NestedRuns } from '../workflow/nested-runs.ts';
import { choose, whyFull } from './choose-worker.ts';
import { ProviderLookUps } from './providers.ts';
import { tooLongWithoutWorker } from './too-long-without-worker.ts';
import { whyNobody } from './why-nobody.ts';

export interface DispatchHooks {
  isPaused(): boolean;
  /** Peer ids of the synced followers: one of them takes over the leases given here when this peer is gone. */
  heirs(): string[];
  /** Some tasks found no worker, or no free slot. */
  onStarved(): void;
}

export class Dispatcher {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #network: Network;
  readonly #peers: PeerTable;
  readonly #tasks: Tasks;
  readonly #attempts: Attempts;
  readonly #nested: NestedRuns;
  readonly #pool: WorkerPool;
  readonly #log: Log;
  readonly #probe: Probe;
  readonly #writer: FeedWriter;
  readonly #signatures: Signatures;
  readonly #hooks: DispatchHooks;
  readonly #beatIntervalMs: number;
  /** A peer that has been silent for this long gets no lease. */
  readonly #silentMs: number;
  readonly #lookUps: ProviderLookUps;
  /** With more classes than one dispatch looks at: where the classes that take turns go on. Null: from the front. */
  #turnOf: QueueKey | null = null;

  constructor(
    components: {
      clock: Clock;
      random: Random;
      network: Network;
      peers: PeerTable;
      tasks: Tasks;
      attempts: Attempts;
      nested: NestedRuns;
      pool: WorkerPool;
      log: Log;
      probe: Probe;
      signatures: Signatures;
      writer: FeedWriter;
    },
    hooks: DispatchHooks,
    beatIntervalMs: number = BEAT_INTERVAL_MS,
  ) {
    this.#clock = components.clock;
    this.#random = components.random;
    this.#network = components.network;
    this.#peers = components.peers;
    this.#tasks = components.tasks;
    this.#attempts = components.attempts;
    this.#nested = components.nested;
    this.#pool = components.pool;
    this.#log = components.log;
    this.#probe = components.probe;
    this.#writer = components.writer;
    this.#signatures = components.signatures;
    this.#hooks = hooks;
    this.#beatIntervalMs = beatIntervalMs;
    this.#silentMs = beatIntervalMs * BEATS_LATE_MAX;
    this.#lookUps = new ProviderLookUps(components, { againMs: beatIntervalMs });
  }

  /** @returns whether any task was leased or begun */
  dispatch(turn: Turn): boolean {
    if (this.#hooks.isPaused() || this.#tasks.queue.size === 0) return false;
    const { queue } = this.#tasks;
    const free = new Map<string, number>();
    const leases = new LeaseBatches();
    const waiting = this.#classesToLookAt();
    const candidatesOf = new Map<string, Candidate[]>();
    let starved = false;
    let served = false;
    let given = 0;
    while (waiting.length > 0) {
      const { of, head } = queue.takeNext(waiting);
      const task = this.#tasks.live.get(head.uid);
      if (task === undefined || !queue.has(head.uid)) {
        // A task that this dispatch began failed at once, which stopped its run and with it this task.
        pushNext(waiting, of);
        continue;
      }
      if (given++ === DISPATCH_TASKS_MAX) {
        turn.after(() => this.#writer.dispatchSoon());
        break;
      }
      if (RECORD_ACTIONS.has(of.action)) {
        served = true;
        queue.served(of);
        this.#begin(turn, task);
      } else {
        const candidates = candidatesOf.get(of.key) ?? this.#candidates(of);
        candidatesOf.set(of.key, candidates);
        for (const candidate of candidates) candidate.free = free.get(slotKey(candidate)) ?? candidate.free;
        if (candidates.length === 0) {
          if (this.#givenUp(turn, task, of)) pushNext(waiting, of);
          else starved = true;
          continue; // the whole class waits
        }
        of.nobody = null;
        const { chosen, reason } = choose(candidates, () => this.#random.next());
        if (chosen === null) {
          this.#tasks.waits(task, candidates.length, reason);
          starved = true;
          continue; // the whole class waits
        }
        served = true;
        queue.served(of);
        free.set(slotKey(chosen), chosen.free - 1);
        this.#lease(turn, task, leases, {
          considered: candidates.length,
          chosen: { peer_id: chosen.peer_id, worker_id: chosen.worker_id },
          reason: task.turned_down === null ? reason : `${reason}; ${task.turned_down}`,
          found_by: chosen.found_by,
        });
      }
      pushNext(waiting, of);
    }
    if (leases.early.size > 0) this.#sendAll(leases.early);
    if (leases.late.size > 0) turn.after(() => this.#sendAll(leases.late));
    if (starved) this.#hooks.onStarved();
    return served;
  }

  /** The most urgent classes, and some of the others in turn: urgent tasks that nobody can run must not hide those. */
  #classesToLookAt(): ClassHead[] {
    const { queue } = this.#tasks;
    const urgent = queue.heads(DISPATCH_CLASSES_MAX / 2);
    const last = urgent.at(-1)?.head;
    if (last === undefined || urgent.length < DISPATCH_CLASSES_MAX / 2) return urgent;
    // No caller's classes hide those of another one.
    const ofCallers = queue.firstOfCallers(DISPATCH_CLASSES_MAX);
    const turnOf = this.#turnOf;
    const inTurn = queue.heads(
      DISPATCH_CLASSES_MAX / 2,
      turnOf !== null && compareQueueKeys(turnOf, last) > 0 ? turnOf : last,
    );
    this.#turnOf = inTurn.length < DISPATCH_CLASSES_MAX / 2 ? null : inTurn.at(-1)!.head;
    return once([...urgent, ...inTurn, ...ofCallers]);
  }

  #candidates(of: TaskClass): Candidate[] {
    return this.#peers.candidates(of, of.key, this.#clock.now(), this.#silentMs);
  }

  /**
   * No connected worker can run the first task of a class: notes why, and fails the task if it has waited too long.
   * @returns whether the task has failed
   */
  #givenUp(turn: Turn, task: LiveTask, of: TaskClass): boolean {
    const nobody = this.#nobodyFor(of);
    const error = tooLongWithoutWorker(task, of, nobody, this.#clock.now());
    if (error !== null) {
      this.#tasks.fail(turn, task, error, false);
      return true;
    }
    this.#tasks.waits(task, 0, nobody.reason);
    // The DHT may know a peer that can.
    this.#lookUps.wantAll(capabilitiesToLookUp(of));
    return false;
  }

  /** Why nobody can run a class. Worked out once per beat: only beats change what is known of workers. */
  #nobodyFor(of: TaskClass): Nobody {
    const now = this.#clock.now();
    const known = of.nobody;
    if (known !== null && now - known.looked_at < this.#beatIntervalMs) return known;
    const seen = this.#peers.seen(of, of.key, now, this.#silentMs);
    const { reason, refused_by: by } = whyNobody(of, seen);
    const refused = by.length === 0 ? null : { since: known?.refused?.since ?? now, by };
    of.nobody = { since: known?.since ?? now, reason, looked_at: now, refused };
    return of.nobody;
  }

  /** Why a queued task is not given to a worker now; null for a task that is not in the queue. */
  whyQueued(uid: string): Why | null {
    const of = this.#tasks.queue.classOfWaiting(uid);
    if (of === undefined) return null;
    if (RECORD_ACTIONS.has(of.action)) return { for: 'queue', reason: 'it begins in its turn' };
    const candidates = this.#candidates(of);
    if (candidates.length === 0) return { for: 'worker', reason: this.#nobodyFor(of).reason };
    const isNext = candidates.some(({ free }) => free > 0);
    return { for: 'slot', reason: isNext ? 'it is about to be given to a worker' : whyFull(candidates) };
  }

  #begin(turn: Turn, task: LiveTask): void {
    const { task_type, payload } = task.record;
    if (task_type === 'workflow') {
      this.#nested.start(turn, task);
      return;
    }
    try {
      if (task_type === 'approve') this.#tasks.waitForPerson(turn, task, parseInputs('approve', payload));
      else this.#tasks.begin(turn, task, 'running', parseInputs('sleep', payload).duration_ms);
    } catch (error) {
      if (!(error instanceof InvalidInputsError)) throw error;
      this.#tasks.fail(turn, task, error.toShape(), true);
    }
  }

  #lease(
    turn: Turn,
    task: LiveTask,
    leases: LeaseBatches,
    placement: Placement & { chosen: NonNullable<Placement['chosen']> },
  ): void {
    const early = task.durable && !task.record.at_most_once; // P1
    this.#attempts.leased(turn, task, placement);
    const { task_type, payload, requires, timeout_ms } = task.record;
    const { peer_id, worker_id } = placement.chosen;
    const token = this.#tasks.leases.tokenOf(task.record, task.lease!);
    const lease: Lease = { ...token, worker_id, action: task_type, payload, requires, timeout_ms };
    leases.add(early ? leases.early : leases.late, peer_id, lease);
  }

  #sendAll(batches: ReadonlyMap<string, Lease[]>): void {
    this.#probe('lease:before');
    for (const [peer, batch] of batches) this.#send(peer, batch);
    this.#probe('lease:after');
  }

  #send(peer: string, leases: Lease[]): void {
    const ready = leases.filter(({ uid, attempt }) => {
      const task = this.#tasks.live.get(uid);
      if (task?.lease?.attempt !== attempt) return false;
      this.#tasks.leases.sent(task);
      return true;
    });
    if (peer === this.#network.self) {
      this.refused(peer, this.#pool.accept(peer, ready));
      return;
    }
    for (const batch of batchesOf(ready, this.#tasks)) {
      this.#network
        .request(peer, 'lease', this.#frameOf(peer, batch), REQUEST_DEADLINE_MS)
        .then((answer) => this.refused(peer, refuseRequestSchema.parse(answer).items))
        .catch((error: unknown) => {
          if (error instanceof FlowmeshError && NOT_TAKEN.has(error.code)) {
            // Its roles changed after it was chosen: nothing has begun there.
            this.refused(
              peer,
              batch.map((lease) => refusal(lease, error.message)),
            );
            return;
          }
          // The tasks may run there all the same: the worker's beats, or their absence, will tell.
          this.#log.debug({ peer, error }, 'leases were not answered, or not in the form of this version');
        });
    }
  }

  #frameOf(peer: string, leases: Lease[]): JsonObject {
    const signed = this.#signatures.leases(peer, leases);
    return { leases, heirs: this.#hooks.heirs(), ...signed } as unknown as JsonObject;
  }

  /** A worker refused leases, or handed them back. */
  refused(peer: string, items: readonly Refusal[]): void {
    if (items.length === 0) return;
    this.#writer.turn((turn) => {
      for (const item of items) {
        const task = this.#tasks.live.get(item.uid);
        if (task === undefined || !this.#tasks.leases.isFrom(peer, task, item)) continue;
        const classKey = this.#tasks.queue.classKeyOf(task.record, task);
        const { worker_id } = task.lease!;
        if (item.reason === 'unable') {
          this.#peers.unable(peer, worker_id, classKey, item.message, this.#clock.now());
          task.turned_down = `${this.#peers.find(peer)?.state?.name ?? peer} did not take it (${item.message})`;
        } else {
          // A peer that hands leases back is leaving: like a busy one, it gets no more before its next beat.
          this.#peers.busy(peer, worker_id, this.#clock.now());
        }
        this.#attempts.refused(turn, peer, item, item.reason);
      }
    });
  }
}

/** Codes with which a peer answers that one of the two may not give or take leases. */
const NOT_TAKEN = new Set(['FORBIDDEN', 'NOT_A_MEMBER']);

function refusal({ uid, feed_id, epoch, attempt }: Lease, message: string): Refusal {
  return { uid, feed_id, epoch, attempt, reason: 'unable', message };
}

/** Leases by the peer they go to. `early` ones may be sent before the commit of this turn, `late` ones after it. */
class LeaseBatches {
  readonly early = new Map<string, Lease[]>();
  readonly late = new Map<string, Lease[]>();

  add(to: Map<string, Lease[]>, peer: string, lease: Lease): void {
    const batch = to.get(peer);
    if (batch === undefined) to.set(peer, [lease]);
    else batch.push(lease);
  }
}

/** Splits leases so that each message stays within LEASE_BATCH_MAX and LEASE_BATCH_BYTES. */
function* batchesOf(leases: readonly Lease[], tasks: Tasks): Iterable<Lease[]> {
  let batch: Lease[] = [];
  let bytes = 0;
  for (const lease of leases) {
    const size = tasks.live.get(lease.uid)?.payload_bytes ?? carriedBytes(lease.payload);
    if (batch.length > 0 && (batch.length === LEASE_BATCH_MAX || bytes + size > LEASE_BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(lease);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}

function once(heads: readonly ClassHead[]): ClassHead[] {
  return [...new Map(heads.map((each) => [each.of, each])).values()].sort((a, b) => compareQueueKeys(a.head, b.head));
}

function slotKey({ peer_id, worker_id }: Candidate): string {
  return `${peer_id}/${worker_id}`;
}

/** Puts the class back among the heads, in the place of its next task. */
function pushNext(heads: ClassHead[], of: TaskClass): void {
  const head = of.tasks.minKey();
  if (head === undefined) return;
  let at = 0;
  while (at < heads.length && compareQueueKeys(heads[at]!.head, head) <= 0) at++;
  heads.splice(at, 0, { of, head });
}
