/** Bounds of the audit trail. */

/** A file that has grown beyond it is followed by a new one. */
export const TRAIL_FILE_BYTES_MAX = 32 * 1024 * 1024;
/** Files that are kept; the oldest is removed when there is one more. */
export const TRAIL_FILES_MAX = 16;
/** Characters of each text in a line; what is longer is cut. */
export const TRAIL_TEXT_CHARS_MAX = 256;
/** What a reader takes for a line: more than the longest that is written, with every character escaped. */
export const TRAIL_LINE_BYTES_MAX = 16 * 1024;
/** Lines that wait to be written; beyond it they are counted as lost. */
export const TRAIL_LINES_WAITING_MAX = 10_000;
/** Lines that are tied together and written at once: as many as hold up no answer. */
export const TRAIL_BATCH_LINES_MAX = 256;
/** Between two writes while calls come one after the other: what a peer that is killed may not have written. */
export const TRAIL_WRITE_EVERY_MS = 10;
/** Between two writes of `head.json`: a peer that is killed leaves lines of this time that it does not know. */
export const TRAIL_HEAD_EVERY_MS = 200;
/** After a write that failed. */
export const TRAIL_RETRY_MS = 1_000;
