/** P7: the limits of the store, each with its unit in the name. */

/** Operations waiting for the writer, with their rows as JSON text; one over it is refused. */
export const QUEUED_BYTES_MAX = 256 * 1024 * 1024;
/** JSON text in one transaction; what is queued beyond it goes into the next. One commit is never split. */
export const GROUP_BYTES_MAX = 32 * 1024 * 1024;
/** Counted for a row beside its JSON: its columns and its entries in the indexes. */
export const ROW_OVERHEAD_BYTES = 1024;
/** Written to the log file since the last checkpoint, estimated, after which an idle writer makes one. */
export const CHECKPOINT_BYTES = 4 * 1024 * 1024;
/** The same, after which a busy writer makes one too. */
export const CHECKPOINT_OVERDUE_BYTES = 64 * 1024 * 1024;
/** The log file is cut back to this after a checkpoint. */
export const LOG_FILE_BYTES_KEPT = 64 * 1024 * 1024;
/** How long a statement waits for a lock that another connection holds. */
export const LOCK_WAIT_MS = 5_000;
/** Rows that one read may return; more is an error, never a cut list. */
export const READ_ROWS_MAX = 500_000;
/** Minutes in a task history; the newest are given. */
export const HISTORY_MINUTES_MAX = 7 * 24 * 60;
/** Prepared list statements kept by one reader. */
export const LIST_STATEMENTS_MAX = 64;
