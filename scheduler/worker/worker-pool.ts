/**
 * The worker's side: named pools of slots that run leases of any owner.
 *
 * 1. A lease is accepted only by a worker that can run it and has a slot, and if the policy of this peer lets the peer
 *    that granted it run this here; everything else is refused with a reason.
 * 2. The result of an attempt is kept until its owner acknowledged it, and sent again until then (P3).
 * 3. Beats name every lease that is running or kept, so that both sides notice what the other has lost.
 * 4. A lease whose message is repeated is not run again: nothing happens while it is held, and it is refused once over.
 */
import { canRun, offeredUnder } from '../capabilities.ts';
import type { Probe } from '../crash-points.ts';
import { ALLOWS_MAX, LEASES_OVER_MAX, NEED_CHARS_MAX } from '../limits.ts';
import type { Grant, Lease, LeaseToken, OfferClass, WorkerState } from '../messages.ts';
import type { Clock, Crashes, Executors, LeaseWatch, Log, Network } from '../ports.ts';
import type { WorkerRecord } from '../records.ts';
import type { Caller } from '../roles.ts';
import type { Signatures } from '../signatures.ts';
import { type ActionEnd, keyOf, resultOf, tokenOf } from './attempt-result.ts';
import { Attempt, type AttemptParts, type WorkerSlots } from './attempts.ts';
import { ResultOutbox } from './result-outbox.ts';

const OVER = 'it is over here already';
const NOTHING: readonly string[] = [];
/** As much as a message between peers carries of the reason. */
const REFUSAL_CHARS_MAX = 1_024;

export interface Refusal extends LeaseToken {
  reason: 'busy' | 'unable' | 'handed_back';
  message: string;
}

/** The workers of this peer. A capability that is an action of this peer is offered as one, any other as a label. */
export class WorkerPool {
  readonly #clock: Clock;
  readonly #executors: Executors;
  readonly #parts: AttemptParts;
  readonly #probe: Probe;
  readonly #watch: LeaseWatch;
  readonly #onSlotFree: () => void;
  readonly #network: Network;
  readonly #workers = new Map<string, WorkerSlots>();
  readonly #attempts = new Map<string, Attempt>();
  readonly #outbox: ResultOutbox;
  readonly #signatures: Signatures;
  /** The last leases that were given back or have ended. */
  readonly #over = new Set<string>();
  /** By feed: the peers that may own it next, as the peer says that gave the leases here. */
  readonly #heirs = new Map<string, readonly string[]>();
  /** The process stops: no worker here takes a lease any more. */
  #leaving = false;

  constructor(parts: {
    clock: Clock;
    executors: Executors;
    network: Network;
    log: Log;
    probe: Probe;
    watch: LeaseWatch;
    crashes: Crashes;
    signatures: Signatures;
    /** Another lease may fit now. */
    onSlotFree: () => void;
  }) {
    this.#network = parts.network;
    this.#clock = parts.clock;
    this.#executors = parts.executors;
    this.#probe = parts.probe;
    this.#watch = parts.watch;
    this.#parts = { ...parts, onEnded: (attempt, end) => this.#ended(attempt, end) };
    this.#outbox = new ResultOutbox(parts);
    this.#signatures = parts.signatures;
    for (const lease of parts.crashes.untold) this.#outbox.keepCrash(lease);
    this.#onSlotFree = parts.onSlotFree;
  }

  /** Adds a worker or changes what it offers; what it runs goes on. */
  define(record: WorkerRecord): void {
    const known = this.#workers.get(record.worker_id);
    if (known === undefined)
      this.#workers.set(record.worker_id, { record, running: new Set(), idle: new Set(), completed: 0, failed: 0 });
    else known.record = record;
  }

  /** Whether a worker with this id is registered here. */
  has(workerId: string): boolean {
    return this.#workers.has(workerId);
  }

  recordOf(workerId: string): WorkerRecord | undefined {
    return this.#workers.get(workerId)?.record;
  }

  /** How many workers there are. */
  get count(): number {
    return this.#workers.size;
  }

  /** How many attempts run, of all workers. */
  get running(): number {
    return this.#attempts.size;
  }

  /** What beats say of the workers. @param reader the peer that is told it; null: everybody */
  states(reader: string | null): WorkerState[] {
    const caller = reader === null ? null : this.#callerOf(reader);
    return [...this.#workers.values()].map((worker) => this.#stateOf(worker, caller));
  }

  #callerOf(peer: string): Caller {
    const roles = this.#network.membership(peer)?.roles ?? new Set();
    return { peer_id: peer, own: peer === this.#network.self, roles };
  }

  /** What the policy of this peer allows; undefined when that is more than a beat carries. */
  #allowedTo(caller: Caller | null): string[] | undefined {
    const allowed = this.#executors.allows(caller);
    const sayable = allowed.length <= ALLOWS_MAX && allowed.every((each) => each.length <= NEED_CHARS_MAX);
    return sayable ? [...allowed] : undefined;
  }

  #stateOf({ record, running, completed, failed }: WorkerSlots, caller: Caller | null): WorkerState {
    const status = this.#leaving && record.status === 'active' ? 'draining' : record.status;
    const actions = this.#executors.actions();
    const everything = record.capabilities.includes('*');
    const offered = everything ? actions : record.capabilities.filter((name) => actions.includes(name));
    const denied = caller === null ? [] : offered.filter((name) => this.#executors.refuses(caller, name) !== null);
    return {
      worker_id: record.worker_id,
      actions: offered,
      labels: record.capabilities.filter((name) => name !== '*' && !actions.includes(name)),
      allows: this.#allowedTo(caller),
      ...(denied.length > 0 && { denied }),
      cpu_cores: record.resource_limits.cpu_cores,
      memory_gb: record.resource_limits.memory_gb,
      slots: record.max_concurrent_tasks,
      running: running.size,
      completed,
      failed,
      status,
      registered_at: record.registered_at,
      metadata: record.metadata,
    };
  }

  /** What others believe of a worker, as this peer's certificate lets it be. */
  #believed(worker: WorkerSlots, caller: Caller | null): WorkerState {
    return offeredUnder(this.#network.membership(this.#network.self), this.#stateOf(worker, caller));
  }

  /** As `states`, without what this peer's certificate does not let it offer. */
  believedStates(): WorkerState[] {
    return [...this.#workers.values()].map((worker) => this.#believed(worker, null));
  }

  /** Leases of an owner that are running, or ended and not acknowledged. */
  holding(owner: string): LeaseToken[] {
    const tokens: LeaseToken[] = [];
    for (const attempt of this.#attempts.values()) if (attempt.owner === owner) tokens.push(tokenOf(attempt.lease));
    for (const token of this.#outbox.of(owner)) tokens.push(tokenOf(token));
    return tokens;
  }

  /** Leases of one feed, running or not acknowledged, of any owner. */
  holdingOf(feedId: string): LeaseToken[] {
    const tokens: LeaseToken[] = [];
    for (const { lease } of this.#attempts.values()) if (lease.feed_id === feedId) tokens.push(tokenOf(lease));
    for (const token of this.#outbox.all()) if (token.feed_id === feedId) tokens.push(tokenOf(token));
    return tokens;
  }

  /** The feeds that leases here belong to. */
  feeds(): Set<string> {
    const feeds = new Set<string>();
    for (const { lease } of this.#attempts.values()) feeds.add(lease.feed_id);
    for (const { feed_id } of this.#outbox.all()) feeds.add(feed_id);
    return feeds;
  }

  /** Peers that may own a feed next, and so know where its results go. */
  heirsOf(feedId: string): readonly string[] {
    return this.#heirs.get(feedId) ?? [];
  }

  /**
   * P9: whether leases here are those of a peer: it owns their feed as far as this worker knows, has given one of them,
   * or was named as an heir by who did. Anybody can say that a feed is its own.
   */
  believes(feedId: string, peer: string): boolean {
    return this.heirsOf(feedId).includes(peer) || this.#sources(feedId).some((source) => source.includes(peer));
  }

  /** The peer that owns a feed and the one that gave the lease, for each lease of it here. */
  #sources(feedId: string): (readonly [owner: string, grantedBy: string])[] {
    const sources = [...this.#outbox.sourcesOf(feedId)];
    for (const { lease, owner, granted_by } of this.#attempts.values()) {
      if (lease.feed_id === feedId) sources.push([owner, granted_by]);
    }
    return sources;
  }

  /** The owner of leases here says who may own their feed next. An empty list tells nothing. */
  heirsSaid(owner: string, feedId: string, heirs: readonly string[]): void {
    if (heirs.length > 0 && this.#sources(feedId).some(([now]) => now === owner)) this.#heirs.set(feedId, heirs);
  }

  /** Forgets the heirs of feeds that have no lease here any more. */
  forgetHeirs(): void {
    const feeds = this.feeds();
    for (const feedId of this.#heirs.keys()) if (!feeds.has(feedId)) this.#heirs.delete(feedId);
  }

  /** A feed has another owner, which gets the results from now on. */
  reassign(feedId: string, owner: string): void {
    for (const attempt of this.#attempts.values()) if (attempt.lease.feed_id === feedId) attempt.owner = owner;
    if (this.#outbox.reassign(feedId, owner)) this.#outbox.send();
  }

  /** Refuses all of these leases for now. */
  refuse(leases: readonly Lease[], message: string): Refusal[] {
    return leases.map((lease) => this.#giveBack(keyOf(lease), { ...tokenOf(lease), reason: 'busy', message }));
  }

  /**
   * Starts the leases that it can, and returns the refusals of the others.
   * @param heirs peers that may own the leases' feed when this owner is gone
   * @param signature of the owner over all leases
   */
  accept(owner: string, leases: readonly Lease[], heirs: readonly string[] = [], signature?: string): Refusal[] {
    const grantOf = this.#signatures.grantsOf(leases, signature);
    const caller = this.#callerOf(owner); // P9
    const refused: Refusal[] = [];
    const admitted: Attempt[] = [];
    for (const [at, lease] of leases.entries()) {
      const key = keyOf(lease);
      if (this.#attempts.has(key) || this.#outbox.has(key)) continue;
      const refusal = this.#over.has(key) ? { reason: 'busy' as const, message: OVER } : this.#refusalOf(lease, caller);
      if (refusal === null) admitted.push(this.#admit({ caller, grant: () => grantOf(at) }, lease));
      else refused.push({ ...tokenOf(lease), ...this.#giveBack(key, refusal) });
    }
    for (const feedId of new Set(admitted.map(({ lease }) => lease.feed_id))) this.heirsSaid(owner, feedId, heirs);
    if (admitted.length > 0) this.#watch.began(admitted.map((attempt) => attempt.workedOn));
    for (const attempt of admitted) attempt.start();
    return refused;
  }

  #giveBack<R>(key: string, refusal: R): R {
    this.#isOver(key);
    return refusal;
  }

  /** P4: remembers a lease that was given back or has ended: it is not begun when its message comes again. */
  #isOver(key: string): void {
    this.#over.add(key);
    if (this.#over.size > LEASES_OVER_MAX) this.#over.delete(this.#over.keys().next().value!);
  }

  #refusalOf(lease: Lease, caller: Caller): { reason: 'busy' | 'unable'; message: string } | null {
    const worker = this.#workers.get(lease.worker_id);
    if (worker === undefined) return { reason: 'unable', message: `there is no worker ${lease.worker_id} here` };
    const state = this.#believed(worker, caller);
    if (state.status !== 'active') return { reason: 'busy', message: `worker ${lease.worker_id} is ${state.status}` };
    const forbidden = this.#executors.refuses(caller, lease.action, lease.payload);
    if (forbidden !== null)
      return { reason: 'unable', message: `unable here: ${forbidden}`.slice(0, REFUSAL_CHARS_MAX) };
    const needs = this.needsOf(lease.action, lease.payload);
    if (!canRun(state, this.#network.self, { ...lease, needs })) {
      return {
        reason: 'unable',
        message: `worker ${lease.worker_id} does not offer ${lease.action} with what it requires`,
      };
    }
    if (state.running >= state.slots) return { reason: 'busy', message: 'every slot is taken' };
    if (!this.#hasRoom(worker, lease.requires)) return { reason: 'busy', message: 'its cores or memory are taken' };
    if (!this.#outbox.hasRoom(caller.peer_id))
      return { reason: 'busy', message: 'too many results wait for their owners' };
    return null;
  }

  #hasRoom({ record, running }: WorkerSlots, requires: Lease['requires']): boolean {
    let cores = requires.cpu_cores ?? 0;
    let memory = requires.memory_gb ?? 0;
    for (const { lease: other } of running) {
      cores += other.requires.cpu_cores ?? 0;
      memory += other.requires.memory_gb ?? 0;
    }
    const limits = record.resource_limits;
    return (
      (limits.cpu_cores === null || cores <= limits.cpu_cores) &&
      (limits.memory_gb === null || memory <= limits.memory_gb)
    );
  }

  /** Gives a lease its slot. */
  #admit(from: { caller: Caller; grant: () => Grant | undefined }, lease: Lease): Attempt {
    const of = this.#workers.get(lease.worker_id)!;
    const attempt = new Attempt(this.#parts, lease, from, of);
    this.#attempts.set(attempt.key, attempt);
    of.running.add(attempt);
    return attempt;
  }

  /** The owner does not want these leases any more: running ones are ended, kept results are dropped. */
  cancel(owner: string, items: readonly (LeaseToken & { force: boolean })[]): void {
    for (const item of items) {
      const key = keyOf(item);
      const attempt = this.#attempts.get(key);
      if (attempt?.owner === owner) attempt.end('cancel', item.force);
      this.#outbox.drop(key, owner);
    }
  }

  /** Frees the slot of an attempt, and tells its owner how it ended. */
  #ended(attempt: Attempt, end: ActionEnd): void {
    const { lease, of, ending } = attempt;
    this.#watch.ending([attempt.workedOn]);
    this.#attempts.delete(attempt.key);
    this.#isOver(attempt.key);
    of.running.delete(attempt);
    // An attempt that succeeded before it could be handed back has a result like any other.
    if (ending === 'hand_back' && 'thrown' in end) {
      attempt.tellHandedBack();
      this.#watch.over([attempt.token]);
    } else {
      const { result, bytes } = resultOf(attempt, end, this.#clock.now());
      if (result.status === 'completed') of.completed++;
      else if (result.status === 'failed') of.failed++;
      this.#probe('result:before');
      this.#outbox.keep(lease, attempt, result, bytes);
      attempt.resultKept();
    }
    if (of.running.size === 0) for (const tell of of.idle) tell();
    this.#onSlotFree();
  }

  /** Sends every kept result that is not on its way; called again with every beat. */
  sendResults(): void {
    this.#outbox.send();
  }

  /** What a peer's policy has to allow to run a task; none when that is too long for a message: its worker decides. */
  needsOf(action: string, payload: Lease['payload']): readonly string[] {
    const needs = this.#executors.needs(action, payload);
    return needs.every((need) => need.length <= NEED_CHARS_MAX) ? needs : NOTHING;
  }

  /** True when a worker here has a free slot, and the cores and memory, for tasks like these of an owner. */
  couldRun(
    { action, requires, needs = [] }: Pick<OfferClass, 'action' | 'requires' | 'needs'>,
    owner: string,
  ): boolean {
    const caller = this.#callerOf(owner);
    for (const worker of this.#workers.values()) {
      const state = this.#believed(worker, caller);
      if (state.running >= state.slots || !canRun(state, this.#network.self, { action, requires, needs })) continue;
      if (this.#hasRoom(worker, requires)) return true;
    }
    return false;
  }

  /**
   * Waits until a draining worker runs nothing, at most `timeoutMs`, then hands back what it still runs.
   * @returns how many of its tasks ended by themselves meanwhile, and how many were handed back
   */
  async drain(workerId: string, timeoutMs: number): Promise<{ completed: number; abandoned: number }> {
    const worker = this.#workers.get(workerId);
    if (worker === undefined) return { completed: 0, abandoned: 0 };
    const running = worker.running.size;
    if (running > 0 && timeoutMs > 0) await this.#idle(worker, timeoutMs);
    const abandoned = worker.running.size;
    for (const attempt of worker.running) attempt.end('hand_back', timeoutMs === 0);
    return { completed: running - abandoned, abandoned };
  }

  /** Resolves when the worker runs nothing, or after `timeoutMs`. */
  async #idle(worker: WorkerSlots, timeoutMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#clock.after(timeoutMs, resolve);
    worker.idle.add(resolve);
    await promise;
    worker.idle.delete(resolve);
    cancel();
  }

  /** How many leases of one owner a worker runs now. */
  runningFor(owner: string, workerId: string): number {
    let count = 0;
    for (const attempt of this.#workers.get(workerId)?.running ?? []) if (attempt.owner === owner) count++;
    return count;
  }

  /** Uids of the tasks that a worker runs now. */
  tasksOf(workerId: string): string[] {
    return [...(this.#workers.get(workerId)?.running ?? [])].map(({ lease }) => lease.uid);
  }

  /** The worker takes no more leases; what it runs goes on. */
  remove(workerId: string): void {
    this.#workers.delete(workerId);
  }

  /**
   * Hands back what runs for one owner. Resolves when all of it has ended and the owner was told.
   * @returns how many attempts
   */
  async handBack(owner: string): Promise<number> {
    const running = [...this.#attempts.values()].filter((attempt) => attempt.owner === owner);
    await Promise.all(running.map((attempt) => attempt.handBack()));
    return running.length;
  }

  /**
   * The process is going to stop: nothing new is taken, and what runs may end by itself, for at most `waitMs`.
   * @returns how many attempts have ended, and how many have not
   */
  async finish(waitMs: number): Promise<{ ended: number; left: number }> {
    this.#leaving = true;
    const running = [...this.#attempts.values()];
    await this.#atMost(waitMs, Promise.all(running.map(({ gone }) => gone)));
    const left = this.#attempts.size;
    return { ended: running.length - left, left };
  }

  /**
   * The process stops: nothing new is taken, what runs is ended and handed back, and what has ended is brought to its
   * owners. Resolves when they all have answered, or after `waitMs`.
   */
  async leave(waitMs: number): Promise<void> {
    this.#leaving = true;
    const gone = Promise.all([...this.#attempts.values()].map((attempt) => attempt.handBack())).then(() => {
      this.#outbox.send();
      return this.#outbox.answered();
    });
    await this.#atMost(waitMs, gone);
  }

  /** Resolves with `work`, or after `waitMs`. */
  async #atMost(waitMs: number, work: Promise<unknown>): Promise<void> {
    const { promise: tooLate, resolve } = Promise.withResolvers<void>();
    const cancelWait = this.#clock.after(waitMs, resolve);
    await Promise.race([work, tooLate]);
    cancelWait();
  }
}
