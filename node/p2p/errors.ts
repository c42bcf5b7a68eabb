/** What can go wrong between two peers: one class per cause. */
import { FlowmeshError } from '../../dag/errors.ts';
import { MEMBERSHIP_CODES } from '../membership/errors.ts';

/** No open stream to the peer, or it closed before the answer came. The other side may have handled the request. */
export class PeerUnreachableError extends FlowmeshError {
  constructor(peer: string, why: string, cause?: unknown) {
    super('PEER_UNREACHABLE', `Peer ${peer} cannot be reached: ${why}. Try again when it is up.`, {
      retryable: true,
      details: { peer_id: peer },
      cause,
    });
  }
}

export class DeadlineExceededError extends FlowmeshError {
  constructor(peer: string, method: string, deadlineMs: number) {
    super(
      'DEADLINE_EXCEEDED',
      `Peer ${peer} did not answer "${method}" within ${deadlineMs} ms. It may have handled the request.`,
      { retryable: true, details: { peer_id: peer, method, deadline_ms: deadlineMs } },
    );
  }
}

/** A limit of unanswered requests or unsent bytes is reached (P7). */
export class PeerBusyError extends FlowmeshError {
  constructor(peer: string, why: string) {
    super('PEER_BUSY', `Too much is on its way to or from peer ${peer}: ${why}. Try again later.`, {
      retryable: true,
      details: { peer_id: peer },
    });
  }
}

export class MessageTooLargeError extends FlowmeshError {
  constructor(method: string, bytes: number, maximumBytes: number) {
    super(
      'MESSAGE_TOO_LARGE',
      `The message of "${method}" has ${bytes} bytes; between peers at most ${maximumBytes} are allowed. Send less at once.`,
      { details: { method, bytes, maximum_bytes: maximumBytes } },
    );
  }
}

export class WrongMeshError extends FlowmeshError {
  constructor(refusedBy: string, theirs: string, ours: string) {
    super(
      'WRONG_MESH',
      `Peer ${refusedBy} is in mesh "${ours}" and refuses a peer of mesh "${theirs}". Start both with the same mesh name.`,
      { details: { mesh: ours, offered: theirs } },
    );
  }
}

export class VersionMismatchError extends FlowmeshError {
  constructor(refusedBy: string, theirs: string, ours: string) {
    super(
      'VERSION_MISMATCH',
      `Peer ${refusedBy} speaks version ${ours} of the peer protocol and refuses version ${theirs}: the major versions differ. Upgrade the older one.`,
      { details: { protocol_version: ours, offered: theirs } },
    );
  }
}

/** Somebody answers, but not in this version of the peer protocol, if in any. */
export class ProtocolUnsupportedError extends FlowmeshError {
  constructor(peer: string, protocol: string, cause: unknown) {
    super(
      'PROTOCOL_UNSUPPORTED',
      `Peer ${peer} answers but does not speak ${protocol}: it runs another major version of flowmesh, or is no flowmesh peer. Run the same major version on both, or do not join by its address.`,
      { details: { peer_id: peer, protocol }, cause },
    );
  }
}

/** The other side is there and does not want this peer, or this peer does not want it: trying again changes nothing. */
export function isRefusal(error: unknown): boolean {
  return error instanceof FlowmeshError && REFUSALS.has(error.code);
}

const REFUSALS = new Set<string>([...['WRONG_MESH', 'VERSION_MISMATCH', 'PROTOCOL_UNSUPPORTED'], ...MEMBERSHIP_CODES]);

/** Both peers opened a stream at once and this one lost; the other side's is used. Never seen by a user. */
export class DuplicateStreamError extends FlowmeshError {
  constructor() {
    super('DUPLICATE_STREAM', 'The other stream of this pair of peers, opened at the same time, is used instead.', {
      retryable: true,
    });
  }
}

export class InvalidAddressError extends FlowmeshError {
  constructor(address: string, why: string, cause?: unknown) {
    super('INVALID_ADDRESS', `"${address}" is not an address to dial: ${why}. Example: /ip4/127.0.0.1/tcp/7600`, {
      details: { address },
      cause,
    });
  }
}

export class InvalidPeerIdError extends FlowmeshError {
  constructor(peer: string, cause: unknown) {
    super('INVALID_PEER_ID', `"${peer}" is not a PeerId. The list of peers shows those that are known here.`, {
      details: { peer_id: peer },
      cause,
    });
  }
}

/** What the innermost cause of an error says: the outer ones tell only that something failed. */
export function rootReasonOf(error: unknown): string {
  let root = error;
  while (root instanceof Error && root.cause instanceof Error) root = root.cause;
  return reasonOf(root);
}

/** What an error says, with what is inside an AggregateError. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) {
    return [...new Set(error.errors.map(reasonOf))].join('; ');
  }
  return error instanceof Error ? error.message : String(error);
}
