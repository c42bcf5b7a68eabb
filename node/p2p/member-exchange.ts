/**
 * What members tell each other about members while they are connected: each new statement at once, and renewals. Also
 * closes the connections of those who are no members any more.
 */
import type { Connection, Libp2p, Stream } from '@libp2p/interface';
import { lpStream } from '@libp2p/utils';
import { FlowmeshError, RemoteError } from '../../dag/errors.ts';
import type { Log } from '../../scheduler/ports.ts';
import type { Authority } from '../membership/authority.ts';
import { MembershipError } from '../membership/errors.ts';
import {
  EXPIRED_REMINDER_MS,
  LEDGER_BYTES_MAX,
  MEMBERSHIP_CALL_TIMEOUT_MS,
  REDEMPTION_COPY_WAIT_MS,
  RENEW_RETRY_MAX_MS,
  RENEW_RETRY_MIN_MS,
  STANDING_CHECK_MS,
} from '../membership/limits.ts';
import type { Membership } from '../membership/membership.ts';
import { type MemberCall, memberAnswerSchema, memberCallSchema, pack, unpack } from '../membership/messages.ts';
import type { Statement } from '../membership/statement.ts';
import { reasonOf } from './errors.ts';

export const MEMBERSHIP_PROTOCOL = '/flowmesh/membership/1.0.0';
/** Calls of one member that are answered at once. */
const CALLS_SERVED_MAX = 8;
const FRAMES = { maxDataLength: LEDGER_BYTES_MAX + 256 * 1_024, maxBufferSize: 2 * LEDGER_BYTES_MAX };

export interface MemberExchangeParts {
  node: Libp2p;
  membership: Membership;
  authority: Authority;
  log: Log;
  /** Ends what goes on with a peer that is no member now, with this reason. */
  expel: (peer: string, why: FlowmeshError) => void;
}

export class MemberExchange {
  readonly #parts: MemberExchangeParts;
  #stopListening = (): void => {};
  #timer: NodeJS.Timeout | undefined;
  #renewing = false;
  #renewAt = 0;
  #retryMs = RENEW_RETRY_MIN_MS;
  #remindedAt = Number.NEGATIVE_INFINITY;

  constructor(parts: MemberExchangeParts) {
    this.#parts = parts;
  }

  async start(): Promise<void> {
    const { node, membership } = this.#parts;
    const limits = { maxInboundStreams: CALLS_SERVED_MAX, maxOutboundStreams: CALLS_SERVED_MAX };
    await node.handle(MEMBERSHIP_PROTOCOL, (stream, connection) => void this.#serve(stream, connection), limits);
    this.#stopListening = membership.onChange((added) => {
      this.#expelAll();
      this.#noteOwnStanding();
      void this.tell(added);
    });
    this.#timer = setInterval(() => this.#check(), STANDING_CHECK_MS);
    this.#timer.unref();
  }

  stop(): void {
    this.#stopListening();
    clearInterval(this.#timer);
  }

  /** Tells all members that are connected. @returns when one of them has it on its disk, or none will soon */
  async tell(statements: readonly Statement[]): Promise<void> {
    const call: MemberCall = { call: 'tell', statements: statements.map(({ bytes }) => bytes) };
    const told = this.#members().map((connection) => this.#call(connection, call, REDEMPTION_COPY_WAIT_MS));
    await Promise.any(told).catch((error: unknown) => {
      // The others learn it when they connect.
      if (told.length > 0) this.#parts.log.debug({ reason: reasonOf(error) }, 'no member has taken a statement yet');
    });
  }

  #members(): Connection[] {
    const { node, membership } = this.#parts;
    const found = new Map<string, Connection>();
    for (const connection of node.getConnections()) {
      const peer = connection.remotePeer.toString();
      if (connection.status === 'open' && membership.of(peer) !== null) found.set(peer, connection);
    }
    return [...found.values()];
  }

  async #call(connection: Connection, call: MemberCall, timeoutMs: number): Promise<Uint8Array[]> {
    const signal = AbortSignal.timeout(timeoutMs);
    const stream = await connection.newStream(MEMBERSHIP_PROTOCOL, { signal });
    try {
      const lines = lpStream(stream, FRAMES);
      await lines.write(pack(call), { signal });
      const answer = unpack(memberAnswerSchema, (await lines.read({ signal })).subarray());
      if ('error' in answer) throw new RemoteError(answer.error);
      return answer.statements;
    } finally {
      stream.close().catch((error: unknown) => stream.abort(error as Error));
    }
  }

  async #serve(stream: Stream, connection: Connection): Promise<void> {
    const peer = connection.remotePeer.toString();
    const { log } = this.#parts;
    const signal = AbortSignal.timeout(MEMBERSHIP_CALL_TIMEOUT_MS);
    try {
      const lines = lpStream(stream, FRAMES);
      const call = unpack(memberCallSchema, (await lines.read({ signal })).subarray());
      const answer = this.#answer(peer, call);
      await lines.write(pack(answer), { signal });
      await stream.close({ signal });
    } catch (error) {
      log.debug({ peer, reason: reasonOf(error) }, 'a call about members ended early');
      stream.abort(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #answer(peer: string, call: MemberCall): Parameters<typeof pack>[0] {
    const { membership, authority } = this.#parts;
    try {
      if (call.call === 'tell') {
        membership.learnFrom(peer, call.statements);
        membership.flush(); // The answer says that it is on this disk.
        return { statements: [] };
      }
      const renewed = authority.renewIfDue(membership.admit(peer, call.chain, call.roots, { renewOnly: true }));
      const chain = [renewed.bytes, ...membership.chain()];
      return { statements: [...membership.roots(), ...chain] };
    } catch (error) {
      if (error instanceof FlowmeshError) return { error: error.toShape() };
      throw error;
    }
  }

  #check(): void {
    const { membership, log } = this.#parts;
    this.#expelAll();
    try {
      membership.tidy();
    } catch (error) {
      log.error({ reason: reasonOf(error) }, 'what is known of the members could not be written; tried again');
    }
    if (membership.isRenewalDue() && performance.now() >= this.#renewAt) void this.#renew();
    this.#noteOwnStanding();
  }

  /** P9: whoever was revoked, or has expired, is a stranger from now on. */
  #expelAll(): void {
    const { node, membership, expel } = this.#parts;
    const gone = new Set<string>();
    for (const { remotePeer } of node.getConnections()) {
      const peer = remotePeer.toString();
      if (membership.of(peer) === null) gone.add(peer);
    }
    const own = membership.standing;
    for (const peer of gone) expel(peer, this.#whyNot(peer));
    if (own.state === 'member') return;
    for (const { remotePeer } of node.getConnections()) expel(remotePeer.toString(), own.why);
  }

  #whyNot(peer: string): FlowmeshError {
    const standing = this.#parts.membership.ledger.standing(peer);
    if (standing !== undefined && standing.state !== 'member') return standing.why;
    return new MembershipError('NO_CERTIFICATE', `${peer} is no member of this mesh.`);
  }

  #noteOwnStanding(): void {
    const { membership, log } = this.#parts;
    const { standing } = membership;
    if (standing.state === 'member' || membership.now() - this.#remindedAt < EXPIRED_REMINDER_MS) return;
    this.#remindedAt = membership.now();
    const { code, message } = standing.why;
    log.error({ code }, `this peer is not in its mesh any more: ${message}`);
  }

  /** From the own root key, else from a connected issuer: one after the other. */
  async #renew(): Promise<void> {
    if (this.#renewing) return;
    this.#renewing = true;
    const { membership, authority, log } = this.#parts;
    try {
      const own = membership.ownCertificate();
      if (authority.canIssue(own.said.rights)) authority.renew(own);
      else await this.#renewAtAnother();
      this.#retryMs = RENEW_RETRY_MIN_MS;
      this.#renewAt = 0;
      const until = new Date(membership.ownCertificate().said.not_after).toISOString();
      log.info({ until }, 'the certificate of this peer was renewed');
    } catch (error) {
      log.debug({ reason: reasonOf(error) }, 'the certificate of this peer could not be renewed yet');
      this.#renewAt = performance.now() + this.#retryMs;
      this.#retryMs = Math.min(2 * this.#retryMs, RENEW_RETRY_MAX_MS);
    } finally {
      this.#renewing = false;
    }
  }

  async #renewAtAnother(): Promise<void> {
    const { membership } = this.#parts;
    const before = membership.ownCertificate().id;
    const issuers = this.#members().filter(({ remotePeer }) => {
      const standing = membership.ledger.standing(remotePeer.toString());
      return standing?.state === 'member' && standing.certificate.rights.issue !== null;
    });
    let last: unknown = new MembershipError('NOT_AN_ISSUER', 'No issuer of the mesh is connected.', {
      retryable: true,
    });
    for (const connection of issuers) {
      try {
        const call: MemberCall = { call: 'renew', chain: membership.chain(), roots: membership.roots() };
        const statements = await this.#call(connection, call, MEMBERSHIP_CALL_TIMEOUT_MS);
        membership.learnFrom(connection.remotePeer.toString(), statements);
        if (membership.ownCertificate().id !== before) return;
      } catch (error) {
        last = error;
      }
    }
    throw last;
  }
}
