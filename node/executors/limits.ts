/** P7: what running actions may use, with its unit in the name. Outputs are bounded by OUTPUT_BYTES_MAX of `dag/`. */

/** Last lines of stderr in the error of a failed command. */
export const STDERR_TAIL_LINES = 10;
export const STDERR_TAIL_CHARS_MAX = 2_000;
/** The end of a command's stderr that its output keeps; how much came before it is said. */
export const STDERR_KEPT_BYTES = 64 * 1024;
/** Characters of a command or an address that an error repeats. */
export const SHOWN_CHARS_MAX = 200;

export const HTTP_CONNECT_TIMEOUT_MS = 10_000;
/** Idle connections to a server are kept this long. */
export const HTTP_KEEP_ALIVE_MS = 4_000;
/** Characters of an unexpected answer's body in the error. */
export const HTTP_BODY_SHOWN_CHARS_MAX = 1_000;

/** Processes that run `fn:` handlers at once; more runs wait for one. */
export const FUNCTION_PROCESSES_MAX = 16;
/** JavaScript heap of one such process. */
export const FUNCTION_MEMORY_MB = 512;
/** How long the modules of the handlers may take to load. */
export const FUNCTIONS_LOAD_MS = 10_000;
/** How long such a process may take to begin a run, once it is loaded; another one begins it then. */
export const FUNCTION_BEGIN_MS = 10_000;
/** Processes that may end, one after the other, before they have begun a run. */
export const FUNCTION_STARTS_MAX = 3;
/** Handlers of one peer. */
export const FUNCTIONS_MAX = 10_000;
/** Messages with logs and progress of handlers in one interval; what comes beyond them waits for the next one. */
export const REPORTS_PER_INTERVAL_MAX = 20;
export const REPORT_INTERVAL_MS = 250;
/** Lines in one message of what no run that is under way has written: they go to the peer's own log. */
export const OUTSIDE_LINES_MAX = 20;
/** Characters of log lines that a process for handlers sends in one interval, beside LOG_LINES_MAX lines. */
export const REPORTED_CHARS_MAX = 1024 * 1024;
/** Characters of the message of a handler's progress. */
export const PROGRESS_MESSAGE_CHARS_MAX = 1_024;

/** Lines of a command that are read in an interval; they become its log. */
export const PRINTED_LINES_PER_INTERVAL = 50_000;
