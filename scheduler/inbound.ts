/** Messages of other peers: checked here at the edge, handed to the part that they concern, trusted from there on. */
import { z } from 'zod';
import { errorShape, FlowmeshError, type JsonObject, type JsonValue } from '../dag/errors.ts';
import { faultOf, faultText, limitErrorOf } from '../dag/json.ts';
import { JSON_DEPTH_MAX } from '../dag/limits.ts';
import type { ToolCall } from './api.ts';
import type { Parts } from './assemble.ts';
import { EVERYBODY } from './caller.ts';
import { ForgedError, NoCopyError, NotReadyError, StrangerError } from './errors.ts';
import type { OwnedFeed } from './feed/owned-feed.ts';
import { ANSWER_ELEMENTS_MAX, ANSWER_LEVELS } from './limits.ts';
import {
  beatSchema,
  callRequestSchema,
  cancelRequestSchema,
  claimRequestSchema,
  handoverRequestSchema,
  leaseRequestSchema,
  locateRequestSchema,
  peerStateSchema,
  progressSchema,
  pullRequestSchema,
  pushRequestSchema,
  refuseRequestSchema,
  reserveRequestSchema,
  resultRequestSchema,
  takeoverRequestSchema,
} from './messages.ts';
import type { NetworkEvents } from './ports.ts';
import { METHOD_ROLES, type Method, mayDo, mustBeAllowed } from './roles.ts';
import { tokenOf } from './worker/attempt-result.ts';

/** What the network tells this peer: messages of other peers, and that peers come and go. */
export class Inbound implements NetworkEvents {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * @returns the answer to a request; undefined for a notification
   * @throws NotAMemberError, ForbiddenError; FlowmeshError INVALID_MESSAGE for what does not fit the method,
   *   UNKNOWN_METHOD, NOT_READY (retryable)
   */
  async onMessage(peer: string, method: string, params: unknown): Promise<JsonValue | undefined> {
    const { self, membershipOf, peers, clock, heartbeat } = this.#parts;
    if (!isMethod(method)) {
      throw new FlowmeshError(
        'UNKNOWN_METHOD',
        `this peer knows no method "${method.slice(0, 64)}"; its version may be older`,
      );
    }
    mustBeAllowed(method, peer, self, membershipOf); // the table of roles.ts; before anything is noted of the peer
    peers.entry(peer, clock.now()).requests_served++;
    heartbeat.noticeSleep();
    const { schema, handle } = HANDLERS[method];
    return await handle(this.#parts, peer, read(schema, method, params));
  }

  onOffer(from: string, offer: unknown): void {
    this.#parts.offers.onOffer(from, offer);
  }

  onConnected(peer: string, _how: 'inbound' | 'outbound'): void {
    const { clock, peers, antiEntropy, heartbeat, pool, ownership, feeds } = this.#parts;
    const entry = peers.turn(peer, true, clock.now());
    entry.leaving = false;
    entry.heard_at = clock.now();
    antiEntropy.met(peer);
    heartbeat.beat(peer);
    pool.sendResults();
    ownership.onConnected(peer);
    feeds.dispatchSoon();
  }

  onDisconnected(peer: string): void {
    const { clock, peers, antiEntropy, reconciliation, ownership } = this.#parts;
    if (peers.find(peer) === undefined) return;
    const entry = peers.turn(peer, false, clock.now());
    antiEntropy.parted(peer);
    entry.found_by = 'connected';
    reconciliation.forget(peer);
    ownership.onDisconnected(peer);
    // The leases that it holds return when it is gone (`goneFor`): it may come back and bring their results.
  }
}

/** One method: `schema` checks what a peer said, and `handle` passes it to the part that it concerns. */
type Handler<S extends z.ZodType> = {
  schema: S;
  handle(to: Parts, peer: string, said: z.output<S>): Promise<JsonValue | undefined> | JsonValue | undefined;
};

const handler = <S extends z.ZodType>(schema: S, handle: Handler<S>['handle']): Handler<z.ZodType> => ({
  schema,
  handle: handle as Handler<z.ZodType>['handle'],
});

/** Exactly the methods that have a line in the table of roles. */
const HANDLERS: Readonly<Record<Method, Handler<z.ZodType>>> = {
  hello: handler(peerStateSchema, (to, peer, state) => {
    to.peers.heard(peer, state, null, to.clock.now());
    to.feeds.dispatchSoon();
    if (to.lifecycle.ready) to.ownership.onLines(peer, state);
    return {};
  }),

  beat: handler(beatSchema, (to, peer, beat) => {
    to.heartbeat.onBeat(peer, beat);
    return {};
  }),

  describe: handler(z.unknown(), (to, peer) => to.selfState.describe(peer) as unknown as JsonObject),

  lease: handler(leaseRequestSchema, (to, peer, { leases, heirs, signature }) => {
    const items = to.peers.find(peer)?.leaving
      ? to.pool.refuse(leases, 'the connection is about to be closed')
      : to.pool.accept(peer, leases, heirs, signature);
    return { items } as unknown as JsonObject;
  }),

  refuse: handler(refuseRequestSchema, (to, peer, { items }) => {
    for (const [feed, ofFeed] of byFeed(to, items)) feed.dispatcher.refused(peer, ofFeed);
    return {};
  }),

  progress: handler(progressSchema, (to, peer, { items }) => {
    for (const [feed, ofFeed] of byFeed(to, items)) {
      feed.turn((turn) => {
        for (const item of ofFeed) feed.attempts.progress(turn, peer, item);
      });
    }
    return undefined;
  }),

  result: handler(resultRequestSchema, async (to, peer, { results, signature }) => {
    mustBeReady(to);
    const missing = results.find(({ feed_id }) => !to.feeds.has(feed_id));
    // The worker keeps the result until it finds the owner of the feed.
    if (missing !== undefined) throw new NoCopyError(missing.feed_id, to.self, 'it does not own it');
    const signed = to.signatures.ofFrame(peer, results, signature);
    if (signed === null) throw new ForgedError(peer, 'results'); // P9
    const signatureOf = new Map(results.map((result, at) => [result, signed[at]]));
    // The leases of this peer's own workers are watched by its pool, since they began.
    const watched = peer === to.self ? [] : results.map((result) => ({ ...tokenOf(result), owner: to.self }));
    if (watched.length > 0) to.watch.ending(watched);
    const commits = byFeed(to, results).map(([feed, ofFeed]) =>
      feed.journal.turn((turn) => {
        for (const result of ofFeed) {
          const granted = () => to.signatures.isGranted(peer, result);
          feed.attempts.result(turn, peer, result, { signed: signatureOf.get(result), granted });
        }
      }),
    );
    await Promise.all(commits).finally(() => {
      if (watched.length > 0) to.watch.over(results);
    });
    return {}; // after the commit: the worker forgets the results now (P1, P3)
  }),

  cancel: handler(cancelRequestSchema, (to, peer, { items }) => {
    to.pool.cancel(peer, items);
    return {};
  }),

  claim: handler(claimRequestSchema, (to, peer, { found_by, state }) => {
    const entry = to.peers.heard(peer, state, null, to.clock.now());
    if (found_by === 'offer') entry.found_by = 'offer';
    to.feeds.dispatchSoon();
    return {};
  }),

  push: handler(pushRequestSchema, async (to, peer, push) => {
    mustBeReady(to);
    return await to.followed.onPush(peer, push);
  }),

  pull: handler(pullRequestSchema, async (to, peer, pull) => {
    mustBeReady(to);
    return await to.followed.onPull(pull, to.peers.mayOwn(peer));
  }),

  takeover: handler(takeoverRequestSchema, (to, peer, { feed_id, line }) => {
    if (to.lifecycle.ready) to.ownership.onLine(peer, feed_id, { ...line, owner: peer }); // P9
    return { holding: to.pool.holdingOf(feed_id) } as unknown as JsonObject;
  }),

  handover: handler(handoverRequestSchema, async (to, peer, { feed_id, ...part }) => {
    mustBeReady(to);
    const feed = to.feeds.get(feed_id);
    if (feed === undefined) throw new NoCopyError(feed_id, to.self, 'it does not own it');
    if (!(await to.inquiry.mayHandOver(peer, feed, part.line))) throw new StrangerError(feed_id, peer); // P9
    await to.reconciliation.receive(peer, feed, part);
    return {};
  }),

  reserve: handler(reserveRequestSchema, (to, peer, { items }) => {
    mustBeReady(to);
    return { holders: to.idClaims.answerReserve(peer, items) };
  }),

  locate: handler(locateRequestSchema, async (to, peer, { items, hops, asked }) => {
    await to.inquiry.whenAwake(); // P11: others yield ids to records that are here
    return await to.locator.answerLocate(peer, items, hops, asked);
  }),

  call: handler(callRequestSchema, async (to, peer, { tool, input, hops, caller: vouched }) => {
    try {
      const { id, others } = vouched ?? EVERYBODY;
      const call: ToolCall = { tool, input: input as JsonObject, hops, caller: { id, others }, vouched };
      mustBeVouched(to, peer, call);
      const asker = vouched?.by ?? peer;
      if (!mayDo(to.membershipOf(asker), ['submit'])) call.kept_only = true;
      return { output: answerable(tool, await to.served.run(call)) };
    } catch (error) {
      return { error: errorShape(error) } as unknown as JsonObject;
    }
  }),
};

export const METHODS = Object.keys(HANDLERS);

function isMethod(method: string): method is Method {
  return Object.hasOwn(HANDLERS, method);
}

/**
 * P9: a peer speaks for the callers that it has asked who they are; for others the peer does that has asked them.
 * @throws FlowmeshError INVALID_CALLER
 */
function mustBeVouched({ signatures, membershipOf }: Parts, peer: string, call: ToolCall): void {
  if (call.vouched === undefined) return;
  const { by } = call.vouched;
  if (mayDo(membershipOf(by), METHOD_ROLES.call.caller) && signatures.isVouched(peer, call, call.vouched)) return;
  throw new FlowmeshError(
    'INVALID_CALLER',
    `peer ${by} has not said that the caller of ${call.tool} is who peer ${peer} says`,
  );
}

/** An answer is made of many outputs, some of a version without limits, but has to fit into a frame. */
function answerable(tool: string, output: JsonObject): JsonObject {
  const fault = faultOf(output, { depth: JSON_DEPTH_MAX + ANSWER_LEVELS, elements: ANSWER_ELEMENTS_MAX });
  if (fault?.kind === 'limit')
    throw limitErrorOf(fault, `the answer of ${tool}`, 'Ask for less of it, or its owner itself.');
  if (fault !== undefined) throw new FlowmeshError('INVALID_OUTPUT', `the answer of ${tool}: ${faultText(fault)}`);
  return output;
}

/** The items of each feed that this peer owns; items of other feeds are left out. */
function byFeed<T extends { feed_id: string }>(to: Parts, items: readonly T[]): [OwnedFeed, T[]][] {
  const found: [OwnedFeed, T[]][] = [];
  for (const [feedId, ofFeed] of Map.groupBy(items, ({ feed_id }) => feed_id)) {
    const feed = to.feeds.get(feedId);
    if (feed !== undefined) found.push([feed, ofFeed]);
  }
  return found;
}

function mustBeReady({ lifecycle }: Parts): void {
  if (!lifecycle.ready) throw new NotReadyError();
}

function read<S extends z.ZodType>(schema: S, method: string, params: unknown): z.output<S> {
  const parsed = schema.safeParse(params);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const place = issue === undefined ? '' : ` at ${issue.path.join('.')}: ${issue.message}`;
  throw new FlowmeshError('INVALID_MESSAGE', `a "${method}" message does not have the form of this version${place}`);
}
