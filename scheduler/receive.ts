/** What other peers say: checked here at the edge, handed to the part that it concerns, trusted from there on. */
import type { z } from 'zod';
import { errorShape, FlowmeshError, type JsonObject, type JsonValue } from '../dag/errors.ts';
import type { Beats } from './beats.ts';
import type { Directory } from './directory.ts';
import type { Dispatcher } from './dispatcher.ts';
import { NotReadyError } from './errors.ts';
import type { Turn } from './journal.ts';
import type { Locator } from './locator.ts';
import {
  beatSchema,
  callRequestSchema,
  cancelRequestSchema,
  claimRequestSchema,
  leaseRequestSchema,
  locateRequestSchema,
  type PeerState,
  peerStateSchema,
  progressSchema,
  refuseRequestSchema,
  reserveRequestSchema,
  resultRequestSchema,
} from './messages.ts';
import type { Clock, Log } from './ports.ts';
import type { Tasks } from './tasks.ts';
import type { WorkerPool } from './worker.ts';

export interface Receiver {
  clock: Clock;
  log: Log;
  directory: Directory;
  tasks: Tasks;
  pool: WorkerPool;
  dispatcher: Dispatcher;
  locator: Locator;
  beats: Beats;
  ready: boolean;
  describe(): PeerState;
  dispatchSoon(): void;
  turn(work: (turn: Turn) => void): void;
  commit<T>(work: (turn: Turn) => T): Promise<T>;
  runCall(tool: string, input: JsonObject, hops: number, from: string): Promise<JsonObject>;
}

/**
 * @returns the answer to a request; undefined for a notification
 * @throws FlowmeshError INVALID_MESSAGE for what does not fit the method, UNKNOWN_METHOD, NOT_READY (retryable)
 */
export async function receive(
  to: Receiver,
  peer: string,
  method: string,
  params: unknown,
): Promise<JsonValue | undefined> {
  const { directory, clock } = to;
  const entry = directory.entry(peer, clock.now());
  entry.requests_served++;
  switch (method) {
    case 'hello':
      directory.heard(peer, read(peerStateSchema, method, params), null, clock.now());
      to.dispatchSoon();
      return {};
    case 'beat':
      to.beats.onBeat(peer, read(beatSchema, method, params));
      return {};
    case 'describe':
      return to.describe() as unknown as JsonObject;
    case 'lease': {
      const { leases } = read(leaseRequestSchema, method, params);
      const items = entry.leaving
        ? to.pool.refuse(leases, 'the connection is about to be closed')
        : to.pool.accept(peer, leases);
      return { items } as unknown as JsonObject;
    }
    case 'refuse': {
      const { items } = read(refuseRequestSchema, method, params);
      to.dispatcher.refused(peer, items);
      return {};
    }
    case 'progress': {
      const { items } = read(progressSchema, method, params);
      to.turn((turn) => {
        for (const item of items) to.tasks.progress(turn, peer, item);
      });
      return undefined;
    }
    case 'result': {
      const { results } = read(resultRequestSchema, method, params);
      mustBeReady(to);
      await to.commit((turn) => {
        for (const result of results) to.tasks.result(turn, peer, result);
      });
      return {}; // after the commit: the worker forgets the results now (P1, P3)
    }
    case 'cancel':
      to.pool.cancel(peer, read(cancelRequestSchema, method, params).items);
      return {};
    case 'claim': {
      const { found_by, state } = read(claimRequestSchema, method, params);
      directory.heard(peer, state, null, clock.now());
      if (found_by === 'offer') entry.found_by = 'offer';
      to.dispatchSoon();
      return {};
    }
    case 'reserve':
      mustBeReady(to);
      return { holders: to.locator.answerReserve(peer, read(reserveRequestSchema, method, params).items) };
    case 'locate': {
      const { items, hops, asked } = read(locateRequestSchema, method, params);
      return await to.locator.answerLocate(peer, items, hops, asked);
    }
    case 'call': {
      const { tool, input, hops } = read(callRequestSchema, method, params);
      try {
        return { output: await to.runCall(tool, input as JsonObject, hops, peer) };
      } catch (error) {
        return { error: errorShape(error) } as unknown as JsonObject;
      }
    }
    default:
      throw new FlowmeshError(
        'UNKNOWN_METHOD',
        `this peer knows no method "${method.slice(0, 64)}"; its version may be older`,
      );
  }
}

function mustBeReady(to: Receiver): void {
  if (!to.ready) throw new NotReadyError();
}

function read<S extends z.ZodType>(schema: S, method: string, params: unknown): z.output<S> {
  const parsed = schema.safeParse(params);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const place = issue === undefined ? '' : ` at ${issue.path.join('.')}: ${issue.message}`;
  throw new FlowmeshError('INVALID_MESSAGE', `a "${method}" message does not have the form of this version${place}`);
}
