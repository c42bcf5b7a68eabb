/** One tool on every connected peer: the fan-out under `scope: "mesh"`. */
import type { JsonObject } from '../../dag/errors.ts';
import type { SchedulerApi } from '../../scheduler/api.ts';
import type { Caller } from '../../scheduler/caller.ts';
import type { Log } from '../../scheduler/ports.ts';
import type { MeshContext } from '../../tools/definition.ts';
import { orAborted } from './deadline.ts';
import { EVERYWHERE_CONCURRENCY, EVERYWHERE_DEADLINE_MS } from './limits.ts';

/** The call was not handed on yet; the peers asked answer for themselves alone. */
const HOPS = 1;

/**
 * Makes `everywhere` of one call's context. A peer that fails, or has not answered when the time for the whole round
 * is up, is in `missing`; both lists are in the order of peer ids.
 *
 * @param options.concurrency peers asked at once, default EVERYWHERE_CONCURRENCY
 * @param options.deadlineMs default EVERYWHERE_DEADLINE_MS
 */
export function createEverywhere(
  scheduler: Pick<SchedulerApi, 'self' | 'peers' | 'call'>,
  caller: Caller,
  signal: AbortSignal,
  log: Log,
  {
    concurrency = EVERYWHERE_CONCURRENCY,
    deadlineMs = EVERYWHERE_DEADLINE_MS,
  }: { concurrency?: number; deadlineMs?: number } = {},
): MeshContext['everywhere'] {
  return async (tool, input) => {
    const waiting = scheduler
      .peers()
      .filter((peer) => peer.connected && peer.peer_id !== scheduler.self)
      .map((peer) => peer.peer_id)
      .sort();
    const answers = new Map<string, JsonObject>();
    const missing: string[] = [];
    const bound = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
    const next = waiting.values();
    const askInTurn = async () => {
      for (const peer of next) {
        try {
          answers.set(
            peer,
            await orAborted(
              bound,
              scheduler.call({ peer_id: peer, addresses: [] }, { tool, input, caller, hops: HOPS }),
            ),
          );
        } catch (error) {
          // The caller learns of it by `missing`; the peer's own error would stand for all of them.
          log.debug({ peer, tool, err: error }, 'a peer is missing from an answer');
          missing.push(peer);
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(concurrency, waiting.length) }, askInTurn));
    signal.throwIfAborted();
    return {
      outputs: waiting.flatMap((peer_id) => {
        const output = answers.get(peer_id);
        return output === undefined ? [] : [{ peer_id, output }];
      }),
      missing: missing.sort(),
    };
  };
}
