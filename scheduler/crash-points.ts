/**
 * Named points around every durable step. A test ends a process at each of them and checks what the other peers and the
 * disk make of it; in production the probe does nothing.
 */
export const CRASH_POINTS = [
  /** Rows are made, nothing is on its way. */
  'commit:before',
  /** Rows are on the owner's disk, no effect is released. */
  'commit:after',
  /** Rows are on as many disks as wanted; the effects come next. */
  'release:before',
  /** The effects of a commit are out. */
  'release:after',
  /** A follower has rows in memory. */
  'copy:before',
  /** A follower has rows on its disk, and has not said so. */
  'ack:before',
  /** A follower has said so. */
  'ack:after',
  /** Leases are decided on and not sent. */
  'lease:before',
  /** Leases are sent. */
  'lease:after',
  /** A worker has a result and has not sent it. */
  'result:before',
  /** A worker's result was acknowledged and is not forgotten yet. */
  'result:after',
  /** A follower has decided to take a feed over. */
  'takeover:before',
  /** The new line is on its disk, nobody was told. */
  'takeover:after',
  /** The owner is about to ask its replica set at its start. */
  'start:before',
  /** It has heard enough, and goes on with its feed. */
  'start:after',
] as const;

export type CrashPoint = (typeof CRASH_POINTS)[number];

/** Told when a point is reached. */
export type Probe = (point: CrashPoint) => void;
