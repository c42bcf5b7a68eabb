/** One class per cause. Codes are stable; messages say what to do next. */
import { FlowmeshError, type JsonObject } from '../dag/errors.ts';
import { didYouMean, nearest } from '../dag/nearest.ts';
import { listed, quoted } from '../dag/quoted.ts';
import type { Alias, RemotePlace } from './messages.ts';
import type { FeedRecord } from './records.ts';

/** The id belongs to a record with other content. */
export class ConflictError extends FlowmeshError {
  constructor(kind: string, id: string, where: string) {
    super('CONFLICT', `${kind} "${id}" exists already ${where} with other content; choose another id`, {
      details: { kind, id },
    });
  }
}

/** The record is on another peer: the tool that was called has to run there. Never seen by users. */
export class ElsewhereError extends FlowmeshError {
  readonly at: RemotePlace;

  constructor(alias: Alias, at: RemotePlace) {
    super('ELSEWHERE', `${alias.kind} "${alias.id}" is on peer ${at.peer_id}; call that one`, { retryable: true });
    this.at = at;
  }
}

export class InvalidStateError extends FlowmeshError {
  constructor(message: string, details: JsonObject = {}) {
    super('INVALID_STATE', message, { details });
  }
}

export class QueueFullError extends FlowmeshError {
  constructor(what: string, limit: string, value: number) {
    super('QUEUE_FULL', `${what}: this peer holds ${value} already (${limit}); wait, or submit to another peer`, {
      retryable: true,
      details: { limit, value },
    });
  }
}

/** A peer brought something that another peer is said to have made, and has not signed (P9). */
export class ForgedError extends FlowmeshError {
  constructor(peer: string, what: string) {
    super('FORGED', `peer ${peer} brings ${what}, which is not signed by the peer that should have made it`, {
      details: { peer },
    });
  }
}

/** A name that several peers have, of those that are connected and those that are away. */
export class AmbiguousPeerNameError extends FlowmeshError {
  constructor(place: string, name: string, meant: readonly { peer_id: string; connected: boolean }[]) {
    const peers = meant.map(({ peer_id, connected }) => `${peer_id}, ${connected ? 'connected' : 'not connected now'}`);
    super(
      'AMBIGUOUS',
      `${place}: ${quoted(name)} is the name of ${meant.length} peers (${listed(peers, '; ')}); write the id of the one that is meant`,
      { details: { place, name, peers: meant.map(({ peer_id }) => peer_id) } },
    );
  }
}

/** A name that no peer has, as far as is known here. */
export class UnknownPeerError extends FlowmeshError {
  constructor(place: string, name: string, known: readonly string[]) {
    super(
      'UNKNOWN_PEER',
      `${place}: no peer with the id or the name ${quoted(name)} is known here${didYouMean(name, known)}; peer_list shows those that are. For a peer that comes later, write its id, or submit this when it is there`,
      { details: { place, name, nearest: nearest(name, known) ?? null } },
    );
  }
}

/** No worker that can run the task came within its `wait_timeout_ms`. */
export class NoWorkerError extends FlowmeshError {
  constructor(waitTimeoutMs: number, reason: string) {
    super(
      'NO_WORKER',
      `within wait_timeout_ms (${waitTimeoutMs}) no connected worker could run it: ${reason}; start one, or run it again later`,
      { retryable: true, details: { wait_timeout_ms: waitTimeoutMs, reason } },
    );
  }
}

/** No known peer allows the task. */
export class NobodyMayError extends FlowmeshError {
  constructor(what: string, peers: readonly string[], advice: string, details: JsonObject) {
    const asked = peers.length === 1 ? 'the only peer that could' : `none of ${peers.length} peers that could`;
    super('ACTION_NOT_ALLOWED', `${what} is not allowed: ${asked} (${listed(peers)}) lets it run; ${advice}`, {
      details,
    });
  }
}

export class UnknownDependencyError extends FlowmeshError {
  constructor(kind: string, id: string) {
    super(
      'UNKNOWN_DEPENDENCY',
      `depends on the ${kind} "${id}", which no reachable peer knows; submit that one first`,
      {
        details: { kind, id },
      },
    );
  }
}

export const TOO_FEW_COPIES = 'TOO_FEW_COPIES';

export class TooFewCopiesError extends FlowmeshError {
  constructor(copies: number, wanted: number) {
    super(
      TOO_FEW_COPIES,
      `require_copies asks for ${wanted} copies and this mesh keeps ${copies} now; nothing was started: submit it again, with the same id or another, when there are more peers`,
      { retryable: true, details: { copies, wanted } },
    );
  }
}

export class StoppedError extends FlowmeshError {
  constructor() {
    super('PEER_STOPPED', 'this peer is stopping; send the call to another peer', { retryable: true });
  }
}

export class NotReadyError extends FlowmeshError {
  constructor() {
    super('NOT_READY', 'this peer is reading its store; try again', { retryable: true });
  }
}

/** The record is known, and its owner is away. Nothing was done. */
export class OwnerUnreachableError extends FlowmeshError {
  constructor(alias: Alias, owner: string) {
    super(
      'OWNER_UNREACHABLE',
      `${alias.kind} "${alias.id}" is kept by peer ${owner}, which cannot be reached now, and no other peer has taken it over; nothing was done: try again when it is back`,
      { retryable: true, details: { kind: alias.kind, id: alias.id, peer_id: owner } },
    );
  }
}

export class HopsExceededError extends FlowmeshError {
  constructor(tool: string) {
    super(
      'HOPS_EXCEEDED',
      `${tool}: handed on too often on the way to the owner of the record; call a peer nearer to it`,
      {
        retryable: true,
      },
    );
  }
}

/** Nothing was sent, so nothing was done. */
export class PeerUnreachableError extends FlowmeshError {
  constructor(peer: string, cause: unknown) {
    const why = cause instanceof Error ? `: ${cause.message}` : '';
    super('PEER_UNREACHABLE', `peer ${peer} cannot be reached${why}`, {
      retryable: true,
      cause,
      details: { peer, sent: false },
    });
  }
}

/** The peer was asked, and gives no sign of life any more. */
export class PeerSilentError extends FlowmeshError {
  constructor(peer: string) {
    super(
      'PEER_SILENT',
      `peer ${peer} was asked and says nothing any more; it may have done what it was asked for: look before you ask again`,
      { retryable: true, details: { peer } },
    );
  }
}

/** The feed can be read here, but not changed until its replica set has said who owns it. Nothing was done. */
export class ReadOnlyError extends FlowmeshError {
  constructor() {
    super(
      'READ_ONLY',
      'this peer has come back and does not know yet whether another one has taken over what it kept; nothing was done: try again',
      { retryable: true },
    );
  }
}

/** P2: the sender does not own the feed any more. Never seen by users. */
export class StaleOwnerError extends FlowmeshError {
  constructor(feedId: string, owner: string) {
    super('STALE_OWNER', `feed ${feedId} has been taken over by peer ${owner}`, {
      details: { feed_id: feedId, owner },
    });
  }
}

/** Another peer owns the feed now that this peer wrote until now. It may have what was on its way to be written. */
export class NotOwnerError extends FlowmeshError {
  constructor(owner: string) {
    super(
      'NOT_OWNER',
      `peer ${owner} has taken over what this peer owned; the call may have been done: look before you ask again`,
      {
        retryable: true,
        details: { owner },
      },
    );
  }
}

/** P7: what comes from the other side of a partition does not fit in memory now; its peer keeps it and tries again. */
export class HandOverFullError extends FlowmeshError {
  constructor(limit: 'ARRIVING_BYTES_MAX' | 'ARRIVING_ROOTS_MAX', value: number, maximum: number) {
    const what = limit === 'ARRIVING_BYTES_MAX' ? `takes ${value} bytes` : `is of ${value} roots`;
    super(
      'HAND_OVER_FULL',
      `what other peers hand over ${what}, more than ${limit} (${maximum}); it stays where it is and is brought again`,
      { retryable: true, details: { limit, value, maximum } },
    );
  }
}

/** P5: parts of a root that came before this one are not here any more: merged without them, the root would be torn. */
export class HandOverCutError extends FlowmeshError {
  constructor(rootUid: string) {
    super('HAND_OVER_CUT', `the parts of ${rootUid} before this one are not here; it is brought again as a whole`, {
      retryable: true,
    });
  }
}

/** A root changed here each time that it was read, so that what another peer brought of it could not be merged. */
export class RootMovesError extends FlowmeshError {
  constructor(rootUid: string) {
    super('NOT_READY', `${rootUid} changes all the time at this peer; it is brought again`, { retryable: true });
  }
}

/** P7: this peer keeps as many calls for absent owners as it may. */
export class TooManyIntentsError extends FlowmeshError {
  constructor(value: number) {
    super(
      'LIMIT_EXCEEDED',
      `this peer keeps ${value} calls for owners that are away already (INTENTS_MAX); nothing was done: try again when they are back`,
      { retryable: true, details: { limit: 'INTENTS_MAX', value } },
    );
  }
}

/** This peer has commits of a feed beyond the fork with a line that wins against its own (P2, P5). */
export class DivergedError extends FlowmeshError {
  readonly mine: FeedRecord;
  readonly theirs: FeedRecord;
  readonly fork: number;

  constructor(mine: FeedRecord, theirs: FeedRecord, fork: number) {
    super('DIVERGED', `what is here of feed ${mine.feed_id} beyond ${fork} is to be handed over first`, {
      retryable: true,
    });
    this.mine = mine;
    this.theirs = theirs;
    this.fork = fork;
  }
}

/** A peer hands over a feed that it has never had a part in (P9). Never seen by users. */
export class StrangerError extends FlowmeshError {
  constructor(feedId: string, peer: string) {
    super(
      'INVALID_MESSAGE',
      `peer ${peer} has never owned or copied feed ${feedId}, so it has nothing of it to hand over`,
    );
  }
}

/** A feed cannot be read from a peer. Never seen by users. */
export class NoCopyError extends FlowmeshError {
  constructor(feedId: string, peer: string, why: string) {
    super('NO_COPY', `peer ${peer} has no copy of feed ${feedId} for this one: ${why}`, { retryable: true });
  }
}

/** The mesh does not know the peer, or does not any more. */
export class NotAMemberError extends FlowmeshError {
  constructor(peer: string) {
    super(
      'NOT_A_MEMBER',
      `peer ${peer} is not a member of this mesh now; it needs an invite, or a renewal of its certificate`,
      { details: { peer } },
    );
  }
}

/** The certificate of a peer does not let it take part in this. */
export class ForbiddenError extends FlowmeshError {
  /** @param what ends with a preposition: `"lease" from` */
  constructor(what: string, peer: string, anyOf: readonly string[]) {
    const roles = anyOf.map((role) => `"${role}"`).join(' or ');
    super(
      'FORBIDDEN',
      `${what} peer ${peer}: it needs the role ${roles}, and its certificate, which decides, has none of that; a member with the role "admin" can invite it with another role`,
      { details: { peer, any_of: [...anyOf] } },
    );
  }
}

/** A client submits at a peer that may not submit. Nothing was done. */
export class MayNotSubmitError extends FlowmeshError {
  constructor(peer: string) {
    super(
      'FORBIDDEN',
      `this peer (${peer}) may not submit: its certificate has not the role "submit"; nothing was done: submit to another peer, or have an admin invite this one with that role`,
      { details: { peer, any_of: ['submit'] } },
    );
  }
}
