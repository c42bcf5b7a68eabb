/**
 * A feed that this peer owns: its journal, its tasks and workflows, the dispatcher that gives them to workers, and the
 * copies on other disks. A peer has one for new work, and one for each feed that it took over or got back.
 */
import { listed } from '../../dag/quoted.ts';
import type { Probe } from '../crash-points.ts';
import { NotOwnerError } from '../errors.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import { Dispatcher } from '../placement/dispatcher.ts';
import type { Clock, Evaluator, Log, Network, Random, Store } from '../ports.ts';
import {
  type FeedRecord,
  type FlowRecord,
  isTerminal,
  type QueueRecord,
  type TaskRecord,
  type WorkflowRecord,
} from '../records.ts';
import { ReplicaSet } from '../replication/replica-set.ts';
import type { Signatures } from '../signatures.ts';
import { type Duplicate, setAside } from '../storage/aliases.ts';
import { currentLine, heirsOf } from '../storage/feed-lines.ts';
import { type FeedWriter, Journal, type Turn } from '../storage/journal.ts';
import { Attempts } from '../task/attempts.ts';
import { Leases } from '../task/leases.ts';
import { Tasks } from '../task/tasks.ts';
import type { TaskFeed } from '../task/transitions.ts';
import { type Why, whyByRow } from '../waiting.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';
import { NestedRuns } from '../workflow/nested-runs.ts';
import { Runs } from '../workflow/runs.ts';
import type { Dependencies } from './dependencies.ts';
import { type Remembered, restore } from './restore.ts';

export interface OwnedFeedComponents {
  clock: Clock;
  random: Random;
  network: Network;
  store: Store;
  evaluator: Evaluator;
  log: Log;
  probe: Probe;
  peers: PeerTable;
  pool: WorkerPool;
  dependencies: Dependencies;
  signatures: Signatures;
}

export interface OwnedFeedHooks {
  isPaused(): boolean;
  /** Some tasks found no worker, or no free slot. */
  onStarved(): void;
  /** Called once per event-loop turn in which the journal had turns, before they are written. */
  beforeFlush(): void;
  /** More commits of the feed may be shown than before (P1). */
  onReleased(): void;
  /** The disk failed. */
  onFailure(error: unknown): void;
  /** P9: whether the leases that a peer has given in the feed count. */
  mayHaveOwned(feed: FeedRecord, peer: string): boolean;
  /** A follower knows of another owner, whose line comes before the one of this peer (P2). */
  onStale(peer: string, feedId: string): void;
}

export class OwnedFeed implements FeedWriter {
  readonly feed_id: string;
  readonly journal: Journal;
  readonly tasks: Tasks;
  readonly attempts: Attempts;
  readonly runs: Runs;
  readonly nested: NestedRuns;
  readonly dispatcher: Dispatcher;
  readonly replicas: ReplicaSet;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly dependencies: Dependencies;
  readonly #signatures: Signatures;
  /** The number of the dispatch in which this feed last gave out a task: see `FeedTable.dispatch`. */
  servedAt = 0;
  #dispatchWanted = false;

  /**
   * @param feed its last line is the one in which this peer writes
   * @param options.copies on how many disks the feed is wanted, this one included
   */
  constructor(
    components: OwnedFeedComponents,
    feed: FeedRecord,
    options: { copies: number; beat_interval_ms: number; caller_weights: ReadonlyMap<string, number> },
    hooks: OwnedFeedHooks,
  ) {
    const { clock, random, network, store, evaluator, log, probe, peers, pool, dependencies, signatures } = components;
    const { feed_id } = feed;
    const { epoch } = currentLine(feed);
    this.feed_id = feed_id;
    this.#clock = clock;
    this.#log = log;
    this.dependencies = dependencies;
    this.#signatures = signatures;
    this.journal = new Journal(
      { store, clock, log, probe },
      { feed_id, epoch, seq: store.feeds.get(feed_id)?.seq ?? 0 },
      { beforeFlush: hooks.beforeFlush, onReleased: hooks.onReleased, onFailure: hooks.onFailure },
    );
    this.replicas = new ReplicaSet({ clock, network, peers, log }, feed, options, {
      wanted: () => Math.max(options.copies, this.runs.copiesWanted),
      write: (changed) => this.turn((turn) => turn.put(signatures.feed(changed))),
      head: () => this.journal.head,
      onCopied: () => this.journal.copied(),
      onStale: (peer) => hooks.onStale(peer, feed_id),
    });
    this.journal.copyBy(this.replicas);
    const written: TaskFeed = {
      ...{ feed_id, epoch, passed_on: feed.passed_on },
      mayHaveOwned: (peer) => hooks.mayHaveOwned(this.feed, peer),
      ownerIn: (of) => this.feed.lines.find((line) => line.epoch === of)?.owner,
    };
    const onBegun = (turn: Turn, record: TaskRecord) => this.runs.onTaskBegun(turn, record);
    const { beat_interval_ms, caller_weights: weights } = options;
    this.tasks = new Tasks({
      weights,
      ...{ clock, random, network, pool, signatures, feed: written, writer: this },
      leases: new Leases({ clock, network, peers, log, feed: written, beat_interval_ms }),
      hooks: {
        onBegun,
        onEnded: (turn, record) => this.#taskEnded(turn, record),
        onWaiting: (turn, record) => this.runs.onTaskWaiting(turn, record),
        onNestedTimeout: (turn, record) => this.nested.onTaskTimeout(turn, record),
      },
    });
    const { tasks } = this;
    this.attempts = new Attempts({
      ...{ tasks, peers, network, log, feed: written },
      hooks: { onBegun, onNeverBegun: (turn, record) => this.runs.onNeverBegun(turn, record) },
    });
    this.runs = new Runs({
      ...{ clock, random, evaluator, tasks, reader: store.reader, log },
      ...{ feedId: feed_id, signatures, writer: this },
      hooks: {
        onKept: (record) => this.nested.onRunKept(record),
        onEnded: (turn, record) => this.#workflowEnded(turn, record),
        onDropped: (turn, record, taskUids) => this.nested.onRunDropped(turn, record, taskUids),
      },
    });
    this.nested = new NestedRuns({ random, tasks, runs: this.runs, peers, feedId: feed_id });
    this.dispatcher = new Dispatcher(
      {
        clock,
        random,
        network,
        peers,
        tasks,
        attempts: this.attempts,
        nested: this.nested,
        pool,
        log,
        probe,
        signatures,
        writer: this,
      },
      {
        isPaused: hooks.isPaused,
        heirs: () => heirsOf(this.feed),
        onStarved: hooks.onStarved,
      },
      options.beat_interval_ms,
    );
  }

  get feed(): FeedRecord {
    return this.replicas.feed;
  }

  /**
   * Loads the open records of the feed into memory and goes on with them. The new line, what follows from the records
   * and what `then` puts are one commit. Resolves when that commit may be shown (P1).
   */
  async open(remembered: Remembered, then: (turn: Turn) => void): Promise<void> {
    const done = this.journal.turn((turn) => {
      turn.put(this.#signatures.feed(this.feed));
      restore(turn, remembered, this);
      then(turn);
    });
    this.dispatchSoon();
    await done;
  }

  /** Runs a turn whose outcome nobody waits for: an error is logged. */
  turn(work: (turn: Turn) => void): void {
    this.journal.turn(work).catch((error: unknown) => {
      // The store failed, the peer stops or another one took over: the feed's next owner repeats this from the rows.
      if (error === this.journal.refused) this.#log.debug({ err: error }, 'a turn was refused');
      else this.#log.error({ err: error }, 'a turn failed');
    });
  }

  dispatchSoon(): void {
    this.#dispatchWanted = true;
    this.journal.schedule();
  }

  get wantsDispatch(): boolean {
    return this.#dispatchWanted && !this.journal.isFrozen;
  }

  /** @returns whether any task was leased or begun */
  dispatch(): boolean {
    if (this.journal.isFrozen) return false;
    this.#dispatchWanted = false;
    return this.dispatcher.dispatch(this.journal);
  }

  /** Why a task of this feed waits; null for a task that is not queued here. */
  whyWaiting(uid: string, { paused, reason }: QueueRecord): Why | null {
    const task = this.tasks.live.get(uid);
    if (task === undefined || task.record.status !== 'queued') return null;
    if (task.blockers.size > 0) return { for: 'tasks', reason: `depends on ${listed([...task.blockers])}` };
    const byRow = whyByRow(task.record, this.#clock.wall());
    if (byRow !== null) return byRow;
    if (paused) return { for: 'queue', reason: `the queue is paused${reason === null ? '' : `: ${reason}`}` };
    if (this.journal.isFrozen) return { for: 'queue', reason: 'its owner first asks the others how things are' };
    return this.dispatcher.whyQueued(uid);
  }

  /** Another peer owns the feed from now on, or the disk failed: nothing more is written, memory is emptied. */
  abandon(reason: unknown = new NotOwnerError('another')): void {
    this.journal.refuse(reason);
    this.replicas.stop();
    for (const { record } of this.tasks.live.values()) {
      this.dependencies.forget('task', record.depends_on, record.uid);
    }
    for (const { record } of this.runs.live.values()) {
      this.dependencies.forget('workflow', record.dependencies, record.uid);
    }
    this.tasks.clear();
    this.runs.clear();
    this.nested.clear();
    this.dependencies.doubt();
  }

  /**
   * Another record keeps the id of one in this feed, which is set aside (P5); the same work is cancelled, as the other
   * record does it.
   * @returns false when the record has changed since it was compared, and nothing was done
   */
  yieldId(turn: Turn, { root, peer_id, same }: Duplicate): boolean {
    const { uid } = root;
    const message = `peer ${peer_id} has accepted the same under the same id, and does it`;
    const error = { code: 'SUPERSEDED', message, retryable: false };
    const task = this.tasks.live.get(uid);
    const run = this.runs.live.get(uid);
    if (isTerminal(root.status) && (task !== undefined || run !== undefined)) return false;
    if (task !== undefined) {
      this.tasks.setAside(turn, task);
      if (same) this.tasks.giveUp(turn, task, error);
    } else if (run !== undefined) {
      this.runs.setAside(turn, run);
      if (same) this.runs.cancel(turn, run, error);
    } else if (isTerminal(root.status)) {
      turn.put(setAside(root));
    } else {
      return false;
    }
    // Records that wait for this id wait for the other record from now on.
    this.dependencies.doubt();
    return true;
  }

  /** A record that ended at another peer belongs to this feed now: unblocks the records that wait for it. */
  ended(record: FlowRecord): void {
    if (record.kind !== 'task' && record.kind !== 'workflow') return;
    if (!isTerminal(record.status) || (record.kind === 'task' && record.workflow_uid !== null)) return;
    const id = record.kind === 'task' ? record.task_id : record.workflow_id;
    this.dependencies.ended({ kind: record.kind, id }, record.status);
  }

  #taskEnded(turn: Turn, record: TaskRecord): void {
    this.nested.onTaskEnded(turn, record);
    this.runs.onTaskEnded(turn, record);
    this.dependencies.forget('task', record.depends_on, record.uid);
    if (record.workflow_uid === null) this.dependencies.ended({ kind: 'task', id: record.task_id }, record.status);
  }

  #workflowEnded(turn: Turn, record: WorkflowRecord): void {
    this.nested.onRunEnded(turn, record);
    this.dependencies.forget('workflow', record.dependencies, record.uid);
    this.dependencies.ended({ kind: 'workflow', id: record.workflow_id }, record.status);
  }
}
