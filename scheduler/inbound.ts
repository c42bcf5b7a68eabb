/** What other peers say: checked here at the edge, handed to the part that it concerns, trusted from there on. */
import type { z } from 'zod';
import { errorShape, FlowmeshError, type JsonObject, type JsonValue } from '../dag/errors.ts';
import { faultOf, faultText, limitErrorOf } from '../dag/json.ts';
import { JSON_DEPTH_MAX } from '../dag/limits.ts';
import { NoCopyError, NotReadyError } from './errors.ts';
import type { OwnedFeed } from './feed/owned-feed.ts';
import { ANSWER_ELEMENTS_MAX, ANSWER_LEVELS } from './limits.ts';
import type { IdClaims } from './lookup/id-claims.ts';
import type { Locator } from './lookup/locator.ts';
import type { Beats } from './membership/heartbeat.ts';
import type { Directory } from './membership/peer-table.ts';
import {
  beatSchema,
  callRequestSchema,
  cancelRequestSchema,
  claimRequestSchema,
  handoverRequestSchema,
  leaseRequestSchema,
  locateRequestSchema,
  type PeerState,
  peerStateSchema,
  progressSchema,
  pullRequestSchema,
  pushRequestSchema,
  refuseRequestSchema,
  reserveRequestSchema,
  resultRequestSchema,
  takeoverRequestSchema,
} from './messages.ts';
import type { Feeds } from './ownership/ownership.ts';
import type { Reconciliation } from './partition/reconcile.ts';
import type { Clock, LeaseWatch, Log } from './ports.ts';
import type { FollowedFeeds } from './replication/follower.ts';
import { tokenOf } from './worker/attempt-result.ts';
import type { WorkerPool } from './worker/worker-pool.ts';

export interface Receiver {
  self: string;
  clock: Clock;
  log: Log;
  watch: LeaseWatch;
  directory: Directory;
  pool: WorkerPool;
  feeds: Feeds;
  followed: FollowedFeeds;
  reconciliation: Reconciliation;
  locator: Locator;
  idClaims: IdClaims;
  beats: Beats;
  ready: boolean;
  describe(): PeerState;
  dispatchSoon(): void;
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
  to.beats.noticeSleep();
  switch (method) {
    case 'hello':
      directory.heard(peer, read(peerStateSchema, method, params), null, clock.now());
      to.dispatchSoon();
      if (to.ready) to.feeds.onClaims(peer, entry.state!.feeds);
      return {};
    case 'beat':
      to.beats.onBeat(peer, read(beatSchema, method, params));
      return {};
    case 'describe':
      return to.describe() as unknown as JsonObject;
    case 'lease': {
      const { leases, heirs } = read(leaseRequestSchema, method, params);
      const items = entry.leaving
        ? to.pool.refuse(leases, 'the connection is about to be closed')
        : to.pool.accept(peer, leases, heirs);
      return { items } as unknown as JsonObject;
    }
    case 'refuse': {
      const { items } = read(refuseRequestSchema, method, params);
      for (const [feed, ofFeed] of byFeed(to, items)) feed.dispatcher.refused(peer, ofFeed);
      return {};
    }
    case 'progress': {
      const { items } = read(progressSchema, method, params);
      for (const [feed, ofFeed] of byFeed(to, items)) {
        feed.turn((turn) => {
          for (const item of ofFeed) feed.attempts.progress(turn, peer, item);
        });
      }
      return undefined;
    }
    case 'result': {
      const { results } = read(resultRequestSchema, method, params);
      mustBeReady(to);
      const missing = results.find(({ feed_id }) => !to.feeds.owned.has(feed_id));
      // Its worker keeps it for whoever owns the feed.
      if (missing !== undefined) throw new NoCopyError(missing.feed_id, to.self, 'it does not own it');
      // Its own ones are watched by its pool, from when they began.
      if (peer !== to.self) to.watch.ending(results.map((result) => ({ ...tokenOf(result), owner: to.self })));
      const commits = byFeed(to, results).map(([feed, ofFeed]) =>
        feed.journal.turn((turn) => {
          for (const result of ofFeed) feed.attempts.result(turn, peer, result);
        }),
      );
      await Promise.all(commits).finally(() => {
        if (peer !== to.self) to.watch.over(results);
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
    case 'push':
      mustBeReady(to);
      return await to.followed.onPush(peer, read(pushRequestSchema, method, params));
    case 'pull':
      mustBeReady(to);
      return await to.followed.onPull(read(pullRequestSchema, method, params));
    case 'takeover': {
      const { feed_id, line } = read(takeoverRequestSchema, method, params);
      if (to.ready) to.feeds.onClaim(peer, feed_id, { ...line, owner: peer }); // P9
      return { holding: to.pool.holdingOf(feed_id) } as unknown as JsonObject;
    }
    case 'handover': {
      mustBeReady(to);
      const { feed_id, ...part } = read(handoverRequestSchema, method, params);
      const feed = to.feeds.owned.get(feed_id);
      if (feed === undefined) throw new NoCopyError(feed_id, to.self, 'it does not own it');
      await to.reconciliation.receive(peer, feed, part);
      return {};
    }
    case 'reserve':
      mustBeReady(to);
      return { holders: to.idClaims.answerReserve(peer, read(reserveRequestSchema, method, params).items) };
    case 'locate': {
      const { items, hops, asked } = read(locateRequestSchema, method, params);
      await to.feeds.whenAwake(); // P11: others give way to what is here
      return await to.locator.answerLocate(peer, items, hops, asked);
    }
    case 'call': {
      const { tool, input, hops } = read(callRequestSchema, method, params);
      try {
        return { output: answerable(tool, await to.runCall(tool, input as JsonObject, hops, peer)) };
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

/** An answer is put together from many outputs, and some are of a version that had no limit: a frame has one. */
function answerable(tool: string, output: JsonObject): JsonObject {
  const fault = faultOf(output, { depth: JSON_DEPTH_MAX + ANSWER_LEVELS, elements: ANSWER_ELEMENTS_MAX });
  if (fault?.kind === 'limit')
    throw limitErrorOf(fault, `the answer of ${tool}`, 'Ask for less of it, or its owner itself.');
  if (fault !== undefined) throw new FlowmeshError('INVALID_OUTPUT', `the answer of ${tool}: ${faultText(fault)}`);
  return output;
}

/** What concerns feeds that this peer owns; of others it knows nothing. */
function byFeed<T extends { feed_id: string }>(to: Receiver, items: readonly T[]): [OwnedFeed, T[]][] {
  const found: [OwnedFeed, T[]][] = [];
  for (const [feedId, ofFeed] of Map.groupBy(items, ({ feed_id }) => feed_id)) {
    const feed = to.feeds.owned.get(feedId);
    if (feed !== undefined) found.push([feed, ofFeed]);
  }
  return found;
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
