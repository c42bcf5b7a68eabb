/**
 * The world as the scheduler sees it. Everything that is not a decision is behind one of these interfaces and is
 * handed in, so that a whole mesh runs in a simulation from one seed. Each has an in-memory implementation and one
 * compliance suite (`test/compliance/`) that the real one passes too.
 */
import type { ErrorShape, JsonObject, JsonValue } from '../dag/errors.ts';
import type { ScopeName } from '../dag/scope.ts';
import type { LeaseToken } from './messages.ts';
import type { FlowRecord, LogLine, RecordKind, Row, TaskRecord, WorkflowRecord } from './records.ts';
import type { Caller, Membership } from './roles.ts';

/** Time. `now` never goes back and is compared only with itself (P8); `wall` is for people and for `due_at`. */
export interface Clock {
  /** Monotonic milliseconds, fractions allowed. */
  now(): number;
  /** Milliseconds since 1970. */
  wall(): number;
  /** Runs `callback` once after `delayMs`; returns a function that cancels it. */
  after(delayMs: number, callback: () => void): () => void;
  /** Runs `callback` when the current event-loop turn's other callbacks have run: the end of a batch. */
  defer(callback: () => void): void;
}

export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** `length` unpredictable characters of 0–9 a–v (base32hex). */
  id(length: number): string;
}

/** How far a feed has come in a store. */
export interface FeedHead {
  /** The epoch of its last commit. 0 while there is none. */
  epoch: number;
  /** The `seq` of its last commit, the highest of its rows. 0 while there is none. */
  seq: number;
  /** Whether this peer answers for it: lists, counts and `byAlias` show only such feeds. */
  owned: boolean;
}

/**
 * Durable rows of several feeds. `commit`, `own` and `drop` resolve when they are fsynced, in the order of the calls,
 * each all or nothing. A rejected call leaves what earlier calls wrote, and nothing of its own; after a
 * rejection every further call rejects until `recover` has reopened and verified the store.
 */
export interface Store {
  /** Every feed that has rows here or was owned, as of the last commit that resolved. */
  readonly feeds: ReadonlyMap<string, Readonly<FeedHead>>;
  /** Rows of one feed: all of the same `feed_id`, `seq` never lower than the feed's head. A row replaces its uid's. */
  commit(rows: Row[]): Promise<void>;
  /** Sets whether this peer answers for a feed; rows of a feed not owned are copies. LOCAL_FEED is always owned. */
  own(feed_id: string, owned: boolean): Promise<void>;
  /** Forgets a feed: its rows and its head. */
  drop(feed_id: string): Promise<void>;
  /** Forgets the tombstones of a feed whose `seq` is at most this. Its head stays. */
  sweep(feed_id: string, seq: number): Promise<void>;
  recover(): Promise<void>;
  readonly reader: Reader;
  close(): Promise<void>;
}

/** Told which commit of which feed a row is from. */
export type RowWatcher = (feed_id: string, seq: number) => void;

/**
 * Reads of what is committed. Results are private copies: the caller may keep or change them. `get` and `children`
 * read rows of any feed, because uids are unique; everything else only those of owned feeds, unless it says so.
 */
export interface Reader {
  /** The same rows; `onRow` is told of every one that is read. Counts and positions read none. */
  watching(onRow: RowWatcher): Reader;
  /** Gives `reads` the rows of one moment, so whole commits. `reads` may await reads of `still` and nothing else. */
  atOnce<T>(reads: (still: Reader) => Promise<T>): Promise<T>;
  get<K extends RecordKind>(kind: K, uid: string): Promise<Extract<FlowRecord, { kind: K }> | undefined>;
  /** The row of a uid with its place in its feed. */
  row(uid: string): Promise<Row | undefined>;
  /** For each uid the feed that its row is in; null when there is no row. */
  feedsOf(uids: readonly string[]): Promise<(string | null)[]>;
  byAlias<K extends 'workflow' | 'task' | 'worker'>(
    kind: K,
    alias: string,
  ): Promise<Extract<FlowRecord, { kind: K }> | undefined>;
  /** As `byAlias`, among the rows of feeds that are not owned, with its place in its feed. */
  copyByAlias(kind: 'workflow' | 'task', alias: string): Promise<Row | undefined>;
  /** All records of a kind under a parent (the steps or tasks of a workflow uid), ordered by seq, then uid. */
  children<K extends RecordKind>(kind: K, parent: string): Promise<Extract<FlowRecord, { kind: K }>[]>;
  /** All records of a kind in one feed, owned or not, that are not terminal, oldest first. */
  active<K extends RecordKind>(kind: K, feed_id: string): Promise<Extract<FlowRecord, { kind: K }>[]>;
  /** Whether a feed, owned or not, has a workflow or task that is not terminal. */
  hasOpen(feed_id: string): Promise<boolean>;
  /**
   * What changed in a feed, owned or not, after a place in it: rows ordered by seq, then uid, as many as fit in
   * `maxBytes` of JSON, at least one if there is one. May end in the middle of a commit.
   */
  changes(feed_id: string, after: { seq: number; uid: string }, maxBytes: number): Promise<Row[]>;
  /**
   * Terminal workflows, or tasks, that belong to no other record, created before `before` (ISO 8601), oldest first.
   * Of one feed, owned or not.
   */
  oldest(kind: 'workflow' | 'task', feed_id: string, before: string, limit: number): Promise<string[]>;
  /**
   * Workflows, or tasks, of owned feeds that belong to no other record, created since `since` (ISO 8601), newest first:
   * those whose alias is wanted, of the newest `among` rows.
   */
  recentRoots<K extends 'workflow' | 'task'>(
    kind: K,
    since: string,
    among: number,
    isWanted: (alias: string) => boolean,
  ): Promise<Extract<FlowRecord, { kind: K }>[]>;
  /** How many terminal workflows, or tasks, of one feed, owned or not, belong to no other record. */
  countRoots(kind: 'workflow' | 'task', feed_id: string): Promise<number>;
  /**
   * Uids that begin with `uid` and a slash (the steps, tasks and logs of a workflow; the log of a task) and come after
   * `after`, in order. Without tombstones. Of any feed.
   */
  parts(uid: string, after: string, limit: number): Promise<string[]>;
  /** Newest first (`created_at`, then uid). */
  list(query: ListQuery & { kind: 'workflow' }): Promise<{ records: WorkflowRecord[]; total: number }>;
  list(query: ListQuery & { kind: 'task' }): Promise<{ records: TaskRecord[]; total: number }>;
  /** How many queued tasks run before this one: higher priority first, then the older `created_at`, then uid. */
  queuePosition(task: { uid: string; priority: number; created_at: string }): Promise<number>;
  taskCounts(query: { since: string }): Promise<TaskCounts>;
  /** Ended tasks per minute since `since`, oldest first. */
  taskHistory(query: { since: string }): Promise<{ minute: string; completed: number; failed: number }[]>;
}

export interface ListQuery {
  status?: string | undefined;
  /** All must match. */
  tags?: string[] | undefined;
  worker_id?: string | undefined;
  /** The uid of the task's workflow. */
  parent?: string | undefined;
  peer_id?: string | undefined;
  priority_min?: number | undefined;
  dead_letter?: boolean | undefined;
  /** Only those of this caller. */
  submitted_by?: string | undefined;
  limit: number;
  offset: number;
}

export interface TaskCounts {
  queued: number;
  running: number;
  input_required: number;
  completed: number;
  /** Without the dead letters. */
  failed: number;
  cancelled: number;
  dead_letter: number;
  /** Over the tasks that ended since `since`; null when there is none. */
  average_wait_ms: number | null;
  average_execution_ms: number | null;
  /** Tasks completed since `since`. */
  completed_since: number;
}

/**
 * Messages between peers. `request` rejects with a retryable error (`PEER_UNREACHABLE`, `DEADLINE_EXCEEDED`) when
 * no answer came; the other side may have handled it. A request to oneself is delivered without the wire.
 * Messages of one turn to one peer travel in one frame.
 */
export interface Network {
  readonly self: string;
  /** The dialable addresses of this peer. */
  addresses(): string[];
  /**
   * Where others can reach a connected peer, as far as this peer knows that itself: what a peer says of its own
   * addresses is not passed on untried.
   */
  addressesOf(peer: string): string[];
  /** Peers with an open, greeted stream. */
  connected(): string[];
  request(peer: string, method: string, params: JsonObject, deadlineMs: number): Promise<JsonValue>;
  notify(peer: string, method: string, params: JsonObject): void;
  /** Gossips to the mesh's offers topic. P6: a hint, may be lost without notice. */
  publish(offer: JsonObject): void;
  /** Announces capabilities as DHT provider records; replaces what was announced before. */
  provide(capabilities: string[]): void;
  /** Peers that the DHT names for a capability, at most `limit`, within `deadlineMs`. May be stale or empty (P6). */
  findProviders(capability: string, limit: number, deadlineMs: number): Promise<string[]>;
  /** Opens and greets a stream to a peer, if there is none. `addresses` are tried with those already known. */
  connect(peer: string, addresses: string[]): Promise<void>;
  /** What the certificate of this peer, or of a connected one, says; null for a peer that is not a member now. */
  membership(peer: string): Membership | null;
  /** Whether a peer was put out of the mesh: it will never be a member again. */
  expelled(peer: string): boolean;
}

/** What the network tells the scheduler. The peer id is the connection's own, never a field (P9). */
export interface NetworkEvents {
  /** A request or notification came in; the resolved value answers a request. */
  onMessage(peer: string, method: string, params: unknown): Promise<JsonValue | undefined>;
  onOffer(from: string, offer: unknown): void;
  onConnected(peer: string, how: 'inbound' | 'outbound'): void;
  /** The stream closed and one redial failed. */
  onDisconnected(peer: string): void;
}

export interface ExecutionRequest {
  /** The task's uid: the idempotency key, the same for every attempt. */
  uid: string;
  attempt: number;
  action: string;
  payload: JsonObject;
  /** Absent: this peer itself. */
  caller?: Caller;
}

export interface ExecutionIO {
  /** Aborted on cancel and timeout: `signal.reason` is `{ force: boolean }`, force meaning without grace time. */
  signal: AbortSignal;
  /** 0–100. */
  progress(percent: number, message?: string): void;
  log(stream: LogLine['stream'], line: string): void;
}

/** Runs actions. Rejects with a FlowmeshError: `retryable: false` means that another attempt cannot help. */
export interface Executors {
  /** The actions this peer can run, e.g. `echo`, `shell`, `fn:resize`. */
  actions(): string[];
  /**
   * What this peer allows of its actions where there is a choice: `shell:wc` or `shell:*`, `http:example.org`.
   *
   * @param caller null: somebody
   */
  allows(caller: Caller | null): readonly string[];
  /** What a peer has to allow to run this, in the words of `allows`. The same on every peer. */
  needs(action: string, payload: JsonObject): string[];
  /**
   * Why the policy of this peer does not let a caller run an action, for people; null when it does.
   *
   * @param payload absent: whatever is in it
   */
  refuses(caller: Caller, action: string, payload?: JsonObject): string | null;
  run(request: ExecutionRequest, io: ExecutionIO): Promise<JsonValue>;
}

export interface EvaluationJob {
  expression: string;
  scope: JsonObject;
}

/** What is wrong with an expression and at which character, or the names that it takes from its scope. */
export type CheckedExpression = { problem: { message: string; position: number } } | { names: ScopeName[] };

/** JSONata, off the loop of the scheduler, with a deadline and a memory limit. */
export interface Evaluator {
  /**
   * Never rejects for a user's fault. Does not wait for evaluations.
   * @throws FlowmeshError, retryable, when nothing could be checked
   */
  check(expressions: string[]): Promise<CheckedExpression[]>;
  /**
   * Per job a value or an error (`EXPRESSION_TIMEOUT`, `EXPRESSION_FAILED`); never rejects for a user's fault.
   * @param whose the workflow that the jobs are of: workflows take turns. Without it, the call takes turns by itself
   */
  evaluate(jobs: EvaluationJob[], whose?: string): Promise<({ value: JsonValue } | { error: ErrorShape })[]>;
}

/** A lease, and the peer that its result goes to. */
export interface WorkedOn extends LeaseToken {
  owner: string;
}

/**
 * Told which leases this loop works on, so that they are known outside when the loop crashes. What is told has to get
 * there even if the crash is the next thing that happens.
 */
export interface LeaseWatch {
  /** Their actions are about to begin. */
  began(leases: readonly WorkedOn[]): void;
  /** Their results are about to be reported and kept or, at the owner, to be committed. */
  ending(leases: readonly WorkedOn[]): void;
  /** Work on them is over here. */
  over(leases: readonly LeaseToken[]): void;
}

/** A lease that was worked on while the loop of this peer crashed. */
export interface CrashedLease extends WorkedOn {
  /** Names the crash. */
  crash: string;
}

/** The leases of crashes before this loop began, kept until their owners know. */
export interface Crashes {
  readonly untold: readonly CrashedLease[];
  /** The owner of a lease knows of the crash. */
  told(lease: LeaseToken): void;
}

/**
 * Signatures by the keys that peers' ids are made of, so that what a peer has made can be told from what somebody else
 * says it has made (`signatures.ts`). In an open mesh nothing is signed, and everything is believed.
 */
export interface Signer {
  /** This peer's signature of a text, in base64url; null in an open mesh. */
  sign(text: string): string | null;
  /** Whether a peer has signed a text; true in an open mesh. Never throws. */
  verify(peer: string, text: string, signature: string | null | undefined): boolean;
}

/** Structured logging; lines go to stderr (P10). */
export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  debug(fields: object, message: string): void;
}
