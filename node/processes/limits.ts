/** What child processes and commands may use of their peer, with its unit in the name. */

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
/** How often what an attempt with limits uses is looked at. */
export const LIMIT_LOOK_INTERVAL_MS = 250;
/**
 * Data that a program makes room for and does not use: Node.js has 540 MB of it for each of its threads. RLIMIT_DATA counts
 * it, so it ends what grows too fast to be looked at, and no more.
 */
export const UNUSED_DATA_MB = 2_048;
/** Processes of the machine that are looked at in one turn of the event loop. */
export const PROCESSES_PER_TURN = 32;
/** Descriptors after stderr that are looked at for what a command would inherit. */
export const DESCRIPTORS_COVERED_MAX = 4_096;
/** A message from a child process. */
export const CHILD_MESSAGE_BYTES_MAX = 32 * 1024 * 1024;
/** What is read of its messages in an interval: by their number and by their bytes. */
export const CHILD_MESSAGES_PER_INTERVAL = 1_000;
export const CHILD_BYTES_PER_INTERVAL = 8 * 1024 * 1024;
/** What is read of all that a child process or a command writes to stdout, and to stderr, in an interval. */
export const PRINTED_BYTES_PER_INTERVAL = 1024 * 1024;
export const CHILD_INTERVAL_MS = 50;
/** The end of a child process's stderr that is kept for its error, in characters. */
export const CHILD_STDERR_CHARS_MAX = 4_000;
/** How often a child process looks whether the peer that started it is still there. */
export const PARENT_POLL_INTERVAL_MS = 1_000;
