/** P7: what running actions may use, with its unit in the name. Outputs are bounded by OUTPUT_BYTES_MAX of `dag/`. */

/** How long processes that an ended shell task left behind may take to close its output, before they are killed. */
export const LEFTOVER_GRACE_MS = 200;
/** How often the processes of an ended task are looked for after a signal to them. */
export const TREE_POLL_INTERVAL_MS = 20;
/** The same, for those that left the group of the task and do not end. */
export const TREE_POLL_INTERVAL_MS_MAX = 160;
/** How long processes are looked for that do not end after SIGKILL, or start others faster than they are ended. */
export const KILL_WAIT_MS = 5_000;
/** Of a task younger than this, pids tell which processes of the machine are older and cannot be its own. */
export const YOUNG_TREE_MS = 5_000;
/** Processes of the machine that are looked at in one turn of the event loop. */
export const PROCESSES_PER_TURN = 32;
/** Last lines of stderr in the error of a failed command. */
export const STDERR_TAIL_LINES = 10;
export const STDERR_TAIL_CHARS_MAX = 2_000;
/** The end of a command's stderr that its output keeps; how much came before it is said. */
export const STDERR_KEPT_BYTES = 64 * 1024;
/** Descriptors after stderr that are looked at for what a command would inherit. */
export const DESCRIPTORS_COVERED_MAX = 4_096;
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

/** A message from a child process. */
export const CHILD_MESSAGE_BYTES_MAX = 32 * 1024 * 1024;
/** What is read of its messages in an interval: by their number and by their bytes. */
export const CHILD_MESSAGES_PER_INTERVAL = 1_000;
export const CHILD_BYTES_PER_INTERVAL = 8 * 1024 * 1024;
/** What is read of all that a child process or a command writes to stdout, and to stderr, in an interval. */
export const PRINTED_BYTES_PER_INTERVAL = 1024 * 1024;
/** The same of a command's lines, which become its log. */
export const PRINTED_LINES_PER_INTERVAL = 50_000;
export const CHILD_INTERVAL_MS = 50;
/** The end of a child process's stderr that is kept for its error, in characters. */
export const CHILD_STDERR_CHARS_MAX = 4_000;
/** How often a child process looks whether the peer that started it is still there. */
export const PARENT_POLL_INTERVAL_MS = 1_000;
