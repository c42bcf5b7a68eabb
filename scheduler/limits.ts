/** P7: every queue, cache, frame, retry and loop of the scheduler has its limit here, with its unit in the name. */

/** Tasks that wait or run at one owner. */
export const ACTIVE_TASKS_MAX = 200_000;
/** Workflows that are not terminal at one owner. */
export const ACTIVE_WORKFLOWS_MAX = 20_000;
/** Leases sent to one peer in one frame. */
export const LEASE_BATCH_MAX = 256;
/** Leases of one owner that a beat names: those that run at the beating peer, and those whose results it keeps. */
export const LEASE_TOKENS_MAX = 65_536;
/** How often connected peers exchange beats. */
export const BEAT_INTERVAL_MS = 1_000;
/** Beats without an answer after which a peer is `suspect`. */
export const BEATS_MISSED_MAX = 3;
/** Beats after which a silent peer gets no new leases, and another one keeps copies in its place. */
export const BEATS_LATE_MAX = 2;
/** A suspect peer becomes `gone` after this: its leases return to the queue. */
export const TAKEOVER_MS = 4_000;
/** A peer that cannot be dialled any more is `gone` after this share of `takeover_ms`, while others are there. */
export const LOST_SHARE = 0.5;
/** A feed in which nothing is open is taken over this many times `takeover_ms` later: its owner may be back by then. */
export const IDLE_FEED_PATIENCE = 2;
/** How many times per beat a peer looks for others that are `gone`. */
export const WATCHES_PER_BEAT = 4;
/** How long a request between peers may take. */
export const REQUEST_DEADLINE_MS = 5_000;
/** How long a call of a tool on another peer may take. */
export const CALL_DEADLINE_MS = 30_000;
/** The wait that a call's own input asks for is added to this deadline, up to this maximum. */
export const CALL_WAIT_MAX_MS = 30 * 60_000;
/** Values in the answer to a call, and levels of nesting around the outputs in it. */
export const ANSWER_ELEMENTS_MAX = 350_000;
export const ANSWER_LEVELS = 16;
/** A call is handed on at most this often on its way to the owner of a record. */
export const CALL_HOPS_MAX = 3;
/** Leases called back in one message. */
export const CANCEL_BATCH_MAX = 1_024;
/** Grace between SIGTERM and SIGKILL when a running task is cancelled without `force`. */
export const CANCEL_GRACE_MS = 1_500;
/**
 * How long after its `timeout_ms` the end of an attempt may take to reach the owner: its worker ends the action, with
 * the grace above, and reports it. After that the owner ends the attempt itself.
 */
export const TIMEOUT_GRACE_MS = 2 * CANCEL_GRACE_MS;
/** How long a stopping peer waits for its running actions to end and for the owners of their tasks to answer. */
export const LEAVE_WAIT_MS = 3_000;
/** Waiting tasks are offered by gossip at most this often. */
export const OFFER_INTERVAL_MS = 500;
/** Different requirements in one offer. */
export const OFFER_CLASSES_MAX = 32;
/** The DHT is asked again for a capability at the earliest after this. */
export const PROVIDERS_CACHE_MS = 10_000;
export const PROVIDERS_DEADLINE_MS = 5_000;
export const PROVIDERS_MAX = 8;
/** Look-ups in the DHT under way at a time; each asks many peers. */
export const PROVIDERS_LOOK_UPS_MAX = 16;
/** Capabilities remembered as looked up. */
export const PROVIDERS_CACHED_MAX = 4_096;
/** Classes of waiting tasks looked at in one dispatch: half of them the most urgent, half in turn from the rest. */
export const DISPATCH_CLASSES_MAX = 256;
/** Programs, hosts and the like that a peer says it allows; a longer list is not sent, and its workers decide. */
export const ALLOWS_MAX = 1_000;
/** Characters of one of these; about a need of a task that is longer, its worker decides. */
export const NEED_CHARS_MAX = 256;
/** Peers whose policy refused one task, after which the task has failed. */
export const POLICY_REFUSALS_MAX = 64;
/** How long a task that no known peer may run waits for one that may, unless it has a `wait_timeout_ms`. */
export const NOT_ALLOWED_WAIT_MS = 5_000;
/** A worker that refused a kind of task as `unable` is not asked again for this long. */
export const UNABLE_MEMORY_MS = 30_000;
/** Log lines and characters kept for one task; older lines are dropped and counted. */
export const LOG_LINES_MAX = 1_000;
export const LOG_LINE_CHARS_MAX = 4_096;
/** Progress and logs of running tasks are written at most this often. */
export const PROGRESS_INTERVAL_MS = 250;
/** Failed attempts described in a task's record. */
export const ATTEMPT_HISTORY_MAX = 20;
/** Attempts that ended because a worker was lost, before the task is a dead letter. */
export const LOST_ATTEMPTS_MAX = 50;
/** Crashes of a mesh loop that worked on a task, after which the task is not run any more. */
export const POISON_CRASHES = 2;
/** Leases that a peer remembers to have given back or ended. */
export const LEASES_OVER_MAX = 10_000;
/** Slots of one worker. */
export const WORKER_SLOTS_MAX = 1_024;
/** Registered workers of one peer. */
export const WORKERS_MAX = 64;
/** Ids remembered as reserved here for submits at other peers. */
export const RESERVATIONS_MAX = 100_000;
/** … of one peer: its oldest one is forgotten first, so that it does not use up what others have. */
export const RESERVATIONS_PER_PEER_MAX = 10_000;
export const RESERVATION_MS = 60_000;
/** Results a worker keeps until their owner acknowledged them, by count and by their bytes. */
export const KEPT_RESULTS_MAX = 10_000;
export const KEPT_RESULTS_BYTES = 256 * 1024 * 1024;
/** The share of these that results for one owner may take: one that acknowledges nothing gets no more work done. */
export const KEPT_RESULTS_OWNER_SHARE = 0.5;
/** How often a dependency that lives on another peer is asked for its state. */
export const DEPENDENCY_POLL_MS = 500;
/** Results and leases of one frame, by count and by their bytes. */
export const RESULT_BATCH_MAX = 512;
export const RESULT_BATCH_BYTES = 6 * 1024 * 1024;
export const LEASE_BATCH_BYTES = 6 * 1024 * 1024;
/** The record of a workflow or task with its output, as JSON; one that would be larger ends without the output. */
export const RECORD_BYTES_MAX = 15 * 1024 * 1024;
/** Any row, as JSON: a message between peers has room for one row and what surrounds it. */
export const ROW_BYTES_MAX = RECORD_BYTES_MAX + 64 * 1024;
/** Levels of nesting in a row of another peer. Earlier versions had no limit on what was submitted to them. */
export const ROW_LEVELS_MAX = 1_024;
/** The items of one `foreach` step, as JSON. */
export const ITEMS_BYTES_MAX = 8 * 1024 * 1024;
/** The kept lines of one task, as JSON; older ones are dropped and counted. */
export const LOG_BYTES_MAX = 1024 * 1024;
/** The result of a workflow, as JSON. */
export const RESULT_BYTES_MAX = 8 * 1024 * 1024;
/** Levels of nesting that the result of a workflow may have around the outputs in it. */
export const RESULT_LEVELS = 8;
/** A question where a record is goes this many peers further than the connected ones. */
export const LOCATE_HOPS_MAX = 2;
/** Records in one such question. */
export const LOCATE_ITEMS_MAX = 1_024;
/** Peers named in such a question as asked already. */
export const LOCATE_ASKED_MAX = 1_024;
/** Remembered places of records. */
export const LOCATED_MAX = 10_000;
/** A worker asks one owner for work at most this often. */
export const CLAIM_INTERVAL_MS = 100;
/** A peer that others named, or whose offer was heard, is dialled again at the earliest after this. */
export const DIAL_AGAIN_MS = 5_000;
/** Record-state tasks begun, and leases given, in one dispatch; the rest follows in the next. */
export const DISPATCH_TASKS_MAX = 1_000;
/** Disks that keep a record, its owner's among them, unless its submit says otherwise. */
export const COPIES_DEFAULT = 2;
/** Disks that a submit may ask for. */
export const COPIES_MAX = 8;
/** How long an answer waits for the copies that were asked for. */
export const COPY_WAIT_MS = 3_000;
/** How long a call waits for an owner while no peer can write what the call changes. */
export const OWNER_WAIT_MS = 15_000;
/** How often such a call looks for an owner. */
export const OWNER_POLL_MS = 250;
/** Peers at which one call is tried, one after the other, while those before cannot answer. */
export const PLACES_TRIED_MAX = 3;
/** Calls kept by one peer for owners that are away. */
export const INTENTS_MAX = 1_000;
/** Commits on their way to one follower; it is told to catch up by itself when there are more. */
export const PUSHES_IN_FLIGHT_MAX = 256;
/** A follower that takes nothing for this long is replaced by another one, if there is one. */
export const FOLLOWER_PATIENCE_MS = 10_000;
/** Rows in one page of a pull, as JSON: at least one row. */
export const PAGE_BYTES = 1024 * 1024;
/** Copies that were found to be forged, each of one feed at one peer, which are not asked for again. */
export const DISTRUSTED_MAX = 1_024;
/** Lines remembered of a feed's history. */
export const FEED_LINES_MAX = 64;
/** Followers of a feed: as many as copies can be asked for, and those that are just being replaced. */
export const FOLLOWERS_MAX = 64;
/** Peers remembered of those that have followed a feed. */
export const FORMER_FOLLOWERS_MAX = 64;
/** Feeds of other peers that one peer keeps copies of. */
export const COPIED_FEEDS_MAX = 1_024;
/** … of one owner. */
export const COPIED_FEEDS_PER_PEER_MAX = 256;
/** How long a starting owner waits for the members of its replica set before it gives new work a feed of its own. */
export const START_WAIT_MS = 3_000;
/** How long workers have to say what they hold when a feed was taken over. */
export const INQUIRY_DEADLINE_MS = 1_000;
/** How long a peer that takes a feed over waits for peers outside its replica set that may know a later line. */
export const BYSTANDER_PATIENCE_MS = 500;
/** A peer that loses over half of its peers at once, and at least two, waits this many times `takeover_ms` (P11). */
export const CUT_OFF_PATIENCE = 3;
/** Records in one message of a hand-over, as JSON. */
export const HAND_OVER_BYTES = 4 * 1024 * 1024;
/** When two peers meet, submits that began before, without asking the other one for their id, are over after this. */
export const SUBMITS_SETTLE_MS = 2 * REQUEST_DEADLINE_MS;
/** Ids that may not have been free when they were used are looked up together after this. */
export const DOUBTS_TOGETHER_MS = 250;
/** Feeds that a peer takes over within this are compared together: a peer that is gone may leave many. */
export const OPENED_TOGETHER_MS = 1_000;
/** The newest workflows, and the newest tasks, among which peers that meet again compare the ids of roots. */
export const COMPARED_ROWS_MAX = 10_000;
/** How far back peers that meet compare ids when they do not know how long they were apart. */
export const COMPARED_BACK_MS = 3_600_000;
/** Roots that are being handed over at a time. */
export const HAND_OVERS_AT_ONCE = 32;
/** Results of another history that wait for their task to be made here. */
export const OFFERED_RESULTS_MAX = 10_000;
/** Records of a hand-over whose last part has not come, as JSON, of all peers together. */
export const ARRIVING_BYTES_MAX = 256 * 1024 * 1024;
/** Hand-overs whose last part has not come, of all peers together. */
export const ARRIVING_ROOTS_MAX = 10_000;
/** The share of these two that one peer may take. */
export const ARRIVING_PEER_SHARE = 0.75;
/** Rows and answers of one feed that wait for the disk or for copies; no submit is accepted beyond it. */
export const JOURNAL_BACKLOG_MAX = 100_000;
/** Days after its end for which a workflow or task is kept, unless the peer is told otherwise. */
export const HISTORY_DAYS_DEFAULT = 30;
/** Ended workflows and tasks of clients kept in one feed, unless the peer is told otherwise. */
export const HISTORY_ROOTS_DEFAULT = 100_000;
/** An ended workflow or task is kept for at least this long, however many there are. */
export const HISTORY_GRACE_MS = 60_000;
/** How often a peer looks whether its history is to be cut back. */
export const RETENTION_INTERVAL_MS = 30_000;
/** Ended workflows and tasks looked at before other work gets its turn. */
export const PRUNED_ROOTS_PAGE = 64;
/** Rows forgotten in one commit. */
export const PRUNED_ROWS_MAX = 500;
/** How long other work then gets its turn. */
export const PRUNE_PAUSE_MS = 10;
/** A tombstone, which is left of a forgotten row, is kept for this long, and then until every copy has it. */
export const TOMBSTONES_KEPT_MS = 600_000;
/** A tombstone that a copy does not come to have is kept for this long: that copy is made anew later. */
export const TOMBSTONES_KEPT_MS_MAX = 24 * 3_600_000;
/** Unregistered workers that a peer remembers. */
export const OFFLINE_WORKERS_MAX = 256;

/** Steps of a submitted workflow that are checked before other work gets its turn. */
export const CHECKED_STEPS_PER_TURN = 100;
/** Expressions whose names are checked before other work gets its turn. */
export const CHECKED_EXPRESSIONS_PER_TURN = 2_000;
/** Warnings in the answer to one submit. */
export const WARNINGS_MAX = 20;
