/**
 * Calls about a record during an outage: which peer is asked next when one cannot answer, and how long a change waits
 * until some peer owns the record again. A change that may have run is never run again.
 */
import { FlowmeshError } from '../../dag/errors.ts';
import type { Place } from '../../scheduler/api.ts';
import { OWNER_POLL_MS, OWNER_WAIT_MS, PLACES_TRIED_MAX } from '../../scheduler/limits.ts';
import type { Alias } from '../../scheduler/messages.ts';
import type { MeshContext } from '../definition.ts';
import { RecordNotFoundError } from '../errors.ts';

/** The name of the operation in `keep.ts`. */
export const KEEP_OPERATION = 'call_keep';

/** Errors that say that nothing was done; another peer, or the same one a little later, may do it. */
const DID_NOT_RUN = new Set(['OWNER_UNREACHABLE', 'READ_ONLY', 'NO_COPY', 'STALE_OWNER']);
/** Errors after which a read is tried elsewhere: a read changes nothing, however often it runs. */
const NO_ANSWER = new Set([
  'PEER_UNREACHABLE',
  'PEER_SILENT',
  'DEADLINE_EXCEEDED',
  'NOT_OWNER',
  'NOT_READY',
  'PEER_STOPPED',
]);

/** Whether a call changed nothing because no peer that could do it was reached. */
export function didNotRun(error: unknown): boolean {
  if (!(error instanceof FlowmeshError)) return false;
  return DID_NOT_RUN.has(error.code) || (error.code === 'PEER_UNREACHABLE' && error.details?.['sent'] === false);
}

/** Errors of a peer that does not have the record (any more), or took another peer for its owner. Nothing was done. */
const NOT_THERE = new Set(['NOT_FOUND', 'HOPS_EXCEEDED']);

/** Whether an error says that the asked peer cannot answer a read. */
export function cannotAnswer(error: unknown): boolean {
  return didNotRun(error) || (error instanceof FlowmeshError && NO_ANSWER.has(error.code));
}

/**
 * Runs a call at the peer that has its record. When that peer cannot run it, or does not have the record (any more),
 * looks for the record without that peer, and tries again.
 *
 * @param mayGoOn whether the next peer may be tried after an error of one
 * @param places how many peers are tried at most
 * @throws NOT_FOUND, OWNER_UNREACHABLE, or the error of the last peer that was tried
 */
export async function atRecord<T>(
  alias: Alias,
  { scheduler, self }: MeshContext,
  run: (place: Place) => Promise<T>,
  mayGoOn: (error: unknown) => boolean,
  places = PLACES_TRIED_MAX,
): Promise<T> {
  const tried: string[] = [];
  let failure: unknown;
  for (;;) {
    const place = await scheduler.resolve(alias, tried).catch((error: unknown) => {
      throw failure ?? error;
    });
    // One that was called in circles said no more than that: nobody who is left to ask knows the record.
    if (place === undefined)
      throw failure === undefined || isNotThere(failure) ? new RecordNotFoundError(alias) : failure;
    try {
      return await run(place);
    } catch (error) {
      const elsewhere = !place.here && place.at.peer_id !== self;
      if (!elsewhere || !(mayGoOn(error) || isNotThere(error)) || tried.length >= places - 1) throw error;
      tried.push(place.at.peer_id);
      failure = error;
    }
  }
}

/** Repeats an attempt that changed nothing, for OWNER_WAIT_MS at most. @throws the error of the last attempt */
export async function untilOwned<T>({ clock, signal }: MeshContext, attempt: () => Promise<T>): Promise<T> {
  const end = clock.now() + OWNER_WAIT_MS;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!didNotRun(error) || clock.now() >= end) throw error;
    }
    await new Promise<void>((resolve) => clock.after(OWNER_POLL_MS, resolve));
    signal.throwIfAborted();
  }
}

function isNotThere(error: unknown): boolean {
  return error instanceof FlowmeshError && NOT_THERE.has(error.code);
}
