import type { Log } from '../../scheduler/ports.ts';

/** A log for tests whose subject is not the log. */
export const quiet: Log = { info() {}, warn() {}, error() {}, debug() {} };
