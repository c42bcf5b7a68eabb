/**
 * The tables of the data file. Columns beside `data` (the record as JSON) exist for queries only. `crc` is the CRC-32
 * of `data`: SQLite checks the structure of its pages but not the bytes of a value.
 */

/** Raised whenever a file of the old format would be misread; kept in the file as SQLite's `user_version`. */
export const FORMAT_VERSION = 3;
export const COLUMNS = [
  'uid',
  'kind',
  'alias',
  'parent',
  'created_at',
  'active',
  'status',
  'priority',
  'worker_id',
  'peer_id',
  'submitted_by',
  'dead_letter',
  'tags',
  'ended_at',
  'wait_ms',
  'execution_ms',
  'feed_id',
  'epoch',
  'seq',
  'data',
] as const;

/** Columns that a record hardly ever changes: an update that leaves them alone leaves their indexes alone. */
export const STEADY_COLUMNS: readonly string[] = ['uid', 'kind', 'alias', 'parent', 'created_at', 'feed_id'];

const LISTED = `CREATE INDEX listed
    ON rows (feed_id, kind, created_at, uid, status, priority, worker_id, peer_id, submitted_by, dead_letter, tags)
    WHERE created_at IS NOT NULL;`;

/**
 * `feeds` has the head of each feed (`FeedHead`). Rows do not know whether their feed is owned: the indexes begin with
 * the feed, a question about all owned feeds names them, and a feed of any size changes hands by one row of `feeds`.
 * `active` is 1 for a record without an end or before it.
 *
 * Every index is paid for at each commit; these are the ones the Reader's questions need:
 *   by_alias   byAlias, copyByAlias
 *   by_parent  children
 *   by_seq     changes; all rows of a feed, to drop it
 *   active     active, queuePosition, counts of what is not ended; the tombstones of a feed, to sweep them
 *   roots      oldest, countRoots
 *   listed     list: all filters and the order from the index alone
 *   ended      counts, averages and history of what is ended
 */
export const SCHEMA = `
  CREATE TABLE feeds (
    feed_id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    owned INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE rows (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    alias TEXT,
    parent TEXT,
    created_at TEXT,
    active INTEGER NOT NULL,
    status TEXT,
    priority REAL,
    worker_id TEXT,
    peer_id TEXT,
    submitted_by TEXT,
    dead_letter INTEGER NOT NULL,
    tags TEXT,
    ended_at TEXT,
    wait_ms REAL,
    execution_ms REAL,
    feed_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    data TEXT NOT NULL
  ) STRICT;
  CREATE INDEX by_alias ON rows (alias, kind) WHERE alias IS NOT NULL;
  CREATE INDEX by_parent ON rows (parent, kind) WHERE parent IS NOT NULL;
  CREATE INDEX by_seq ON rows (feed_id, seq, uid);
  CREATE INDEX active ON rows (feed_id, kind, status, priority, created_at, uid) WHERE active = 1;
  CREATE INDEX roots ON rows (feed_id, kind, created_at, uid)
    WHERE active = 0 AND parent IS NULL AND created_at IS NOT NULL;
  ${LISTED}
  CREATE INDEX ended ON rows (feed_id, status, dead_letter, ended_at, wait_ms, execution_ms)
    WHERE kind = 'task' AND active = 0;
`;

/** By the format of a file, what makes the next one of it. */
export const UPGRADES: ReadonlyMap<number, string> = new Map([
  [2, `ALTER TABLE rows ADD COLUMN submitted_by TEXT; DROP INDEX listed; ${LISTED}`],
]);
