/**
 * Who is let in: a step of the connection's encryption, between the handshake of Noise, which proves the PeerIds, and
 * the muxer. A connection on which it fails never carries any protocol: no peer stream, gossip, DHT, relay or identify.
 *
 * 1. The listener shows who it is first; a joiner checks that before it says anything of its invite.
 * 2. Nothing of a stranger is kept: what it says is bounded, and so are its connections and their time.
 * 3. Revocations are exchanged before a connection is used (`Decision`, `Told`).
 */
import { randomBytes } from 'node:crypto';
import type {
  ConnectionEncrypter,
  MessageStream,
  MultiaddrConnection,
  SecureConnectionOptions,
  SecuredConnection,
} from '@libp2p/interface';
import { type LengthPrefixedStream, lpStream } from '@libp2p/utils';
import type { z } from 'zod';
import { FlowmeshError, RemoteError } from '../../dag/errors.ts';
import type { Log } from '../../scheduler/ports.ts';
import type { Authority } from '../membership/authority.ts';
import { MembershipError } from '../membership/errors.ts';
import { otherMesh } from '../membership/ledger.ts';
import {
  ADMISSION_TIMEOUT_MS,
  LEDGER_BYTES_MAX,
  REFUSALS_KEPT_MAX,
  STRANGER_BYTES_MAX,
  STRANGERS_MAX,
  STRANGERS_PER_ADDRESS_MAX,
} from '../membership/limits.ts';
import type { Membership } from '../membership/membership.ts';
import {
  type Answer,
  answerSchema,
  decisionSchema,
  type Offer,
  offerSchema,
  pack,
  toldSchema,
  unpack,
} from '../membership/messages.ts';
import type { Statement } from '../membership/statement.ts';
import { sourceOf } from './addresses.ts';
import { reasonOf } from './errors.ts';

export const ADMISSION_PROTOCOL = '/flowmesh/admission/1.0.0';
/** What the ledger needs beside its bytes. */
const FRAME_SLACK_BYTES = 256 * 1_024;
/** How long one that refuses waits until the other side has read why. */
const REFUSAL_READ_MS = 1_000;
const NONCE_BYTES = 16;

/** A dial ended since one side did not want the other: kept for whoever dialled, since libp2p hands on texts only. */
class Refusals {
  readonly #byPeer = new Map<string, FlowmeshError>();

  note(key: string, error: FlowmeshError): void {
    this.#byPeer.delete(key);
    if (this.#byPeer.size >= REFUSALS_KEPT_MAX) this.#byPeer.delete(this.#byPeer.keys().next().value!);
    this.#byPeer.set(key, error);
  }

  take(key: string): FlowmeshError | undefined {
    const error = this.#byPeer.get(key);
    this.#byPeer.delete(key);
    return error;
  }
}

/** Connections that are not admitted yet, by the address that they come from. */
class Strangers {
  readonly #byAddress = new Map<string, number>();
  #count = 0;

  /** False when there are too many. It counts until the connection is over, or is admitted (`leave`). */
  enter(connection: MultiaddrConnection): boolean {
    const address = sourceOf(connection.remoteAddr);
    const here = this.#byAddress.get(address) ?? 0;
    if (here >= STRANGERS_PER_ADDRESS_MAX || this.#count >= STRANGERS_MAX) return false;
    this.#byAddress.set(address, here + 1);
    this.#count++;
    const leave = (): void => {
      if (!this.#inside.delete(connection)) return;
      this.#count--;
      const left = (this.#byAddress.get(address) ?? 1) - 1;
      if (left > 0) this.#byAddress.set(address, left);
      else this.#byAddress.delete(address);
    };
    this.#inside.set(connection, leave);
    connection.addEventListener('close', leave, { once: true });
    return true;
  }

  readonly #inside = new Map<object, () => void>();

  /** It was admitted, or is over. */
  leave(connection: object): void {
    this.#inside.get(connection)?.();
  }
}

export interface AdmissionParts {
  membership: Membership;
  authority: Authority;
  log: Log;
}

export class Admission {
  readonly #membership: Membership;
  readonly #authority: Authority;
  readonly #log: Log;
  readonly #refusals = new Refusals();
  readonly #strangers = new Strangers();
  /** Puts statements on another disk, where there is one. Before the first joiner is let in. */
  copy: (statements: readonly Statement[]) => Promise<void> = async () => {};

  constructor({ membership, authority, log }: AdmissionParts) {
    this.#membership = membership;
    this.#authority = authority;
    this.#log = log;
  }

  /** Around an encrypter that proves PeerIds. */
  encrypter(inner: ConnectionEncrypter): ConnectionEncrypter {
    return {
      protocol: ADMISSION_PROTOCOL,
      secureInbound: (connection, options) =>
        this.#secure(connection, inner.secureInbound(connection, options), options, this.#listen),
      secureOutbound: (connection, options) =>
        this.#secure(connection, inner.secureOutbound(connection, options), options, this.#dial),
    };
  }

  /** Whether one more connection may come from where this one comes; asked before anything is read from it. */
  mayConnect(connection: MultiaddrConnection): boolean {
    return this.#strangers.enter(connection);
  }

  isRevoked(peer: string): boolean {
    return this.#membership.ledger.whyRevoked(peer) !== undefined;
  }

  /** Why the last dial to a peer was refused, there or here. Told once. */
  refusal(peer: string): FlowmeshError | undefined {
    return this.#refusals.take(peer);
  }

  async #secure(
    raw: MessageStream,
    securing: Promise<SecuredConnection>,
    options: SecureConnectionOptions | undefined,
    exchange: (lines: Lines, peer: string) => Promise<void>,
  ): Promise<SecuredConnection> {
    try {
      const secured = await securing;
      const peer = secured.remotePeer.toString();
      const lines = new Lines(secured.connection, options?.signal);
      try {
        await exchange(lines, peer);
      } catch (error) {
        const refusal = error instanceof FlowmeshError ? error : interrupted(error);
        this.#refusals.note(peer, refusal);
        throw refusal;
      }
      return { ...secured, connection: lines.unwrap() };
    } finally {
      this.#strangers.leave(raw);
    }
  }

  readonly #listen = async (lines: Lines, peer: string): Promise<void> => {
    const { ledger } = this.#membership;
    const nonce = randomBytes(NONCE_BYTES);
    await lines.write({ ...this.#self(), mesh: ledger.mesh, nonce });
    try {
      const answer = await lines.read(answerSchema);
      if (answer.as === 'joiner') await this.#letJoin(lines, peer, nonce, answer);
      else await this.#letIn(lines, peer, answer);
    } catch (error) {
      if (!(error instanceof FlowmeshError) || error instanceof JoinedError) throw error;
      this.#log.warn({ peer, code: error.code }, `refused a connection: ${error.message}`);
      const revocations = ledger
        .of('revocation')
        .filter(({ said }) => 'peer_id' in said.target && said.target.peer_id === peer);
      const proof = error.code === 'REVOKED' ? revocations.map(({ bytes }) => bytes) : [];
      await lines.refuse(error, proof);
      throw error;
    }
  };

  async #letIn(lines: Lines, peer: string, answer: Extract<Answer, { as: 'member' | 'expired' }>): Promise<void> {
    const membership = this.#membership;
    const { ledger } = membership;
    const expired = answer.as === 'expired';
    const shown = membership.admit(peer, answer.chain, answer.roots, { renewOnly: expired });
    if (answer.as === 'member' && answer.renewed !== undefined) membership.learnFrom(peer, [answer.renewed]);
    if (expired && ledger.judge(shown).state !== 'member') await this.copy([this.#authority.renew(shown)]);
    if (membership.standing.state !== 'member') throw membership.standing.why;
    const differs = answer.digest !== ledger.digest();
    await lines.write({ admitted: true, statements: differs ? this.#everything() : [] });
    const { statements } = await lines.read(toldSchema, LEDGER_BYTES_MAX + FRAME_SLACK_BYTES);
    membership.learnFrom(peer, statements);
    this.#mustStillBe(peer);
  }

  /** What the other side told may have been its own end, or that of its issuer. */
  #mustStillBe(peer: string): void {
    const standing = this.#membership.ledger.standing(peer);
    if (standing === undefined) throw new MembershipError('NO_CERTIFICATE', `${peer} is no member of this mesh.`);
    if (standing.state !== 'member') throw standing.why;
  }

  async #letJoin(
    lines: Lines,
    peer: string,
    nonce: Uint8Array,
    answer: Extract<Answer, { as: 'joiner' }>,
  ): Promise<void> {
    const certificate = this.#authority.redeem(answer, { peer, nonce });
    this.#log.info({ peer, name: answer.name, invite: certificate.said.invite?.id }, 'a peer has joined the mesh');
    await this.copy([certificate]);
    await lines.write({ admitted: true, statements: this.#everything() });
    // It comes again as a member, when it has kept that.
    await lines.ended();
    throw new JoinedError(peer);
  }

  readonly #dial = async (lines: Lines, peer: string): Promise<void> => {
    const membership = this.#membership;
    const { ledger } = membership;
    const offer = await lines.read(offerSchema);
    if (offer.mesh !== ledger.mesh) throw otherMesh(offer.mesh, ledger.mesh);
    const renewed = this.#checkListener(peer, offer);
    const expired = membership.standing.state === 'expired' || membership.standing.state === 'void';
    await lines.write(expired ? { as: 'expired', ...this.#self() } : { as: 'member', ...this.#self(), renewed });
    const decision = await lines.read(decisionSchema, LEDGER_BYTES_MAX + FRAME_SLACK_BYTES);
    membership.learnFrom(peer, decision.statements);
    if (!decision.admitted) throw new RemoteError(decision.error);
    this.#mustStillBe(peer);
    await lines.write({ statements: offer.digest === ledger.digest() ? [] : this.#everything() });
  };

  /** @returns a new certificate for a listener whose own has expired, where this peer can give it one */
  #checkListener(peer: string, { chain, roots }: Offer): Uint8Array | undefined {
    const shown = this.#membership.admit(peer, chain, roots, { renewOnly: true });
    const standing = this.#membership.ledger.judge(shown);
    if (standing.state === 'member') return undefined;
    if (this.#authority.canIssue(shown.said.rights)) return this.#authority.renew(shown).bytes;
    throw standing.why;
  }

  #self(): { chain: Uint8Array[]; roots: Uint8Array[]; digest: string } {
    const { ledger } = this.#membership;
    return { chain: this.#membership.chain(), roots: this.#membership.roots(), digest: ledger.digest() };
  }

  #everything(): Uint8Array[] {
    return this.#membership.ledger.all().map(({ bytes }) => bytes);
  }
}

/** Ends the connection of a peer that has joined just now. */
class JoinedError extends FlowmeshError {
  constructor(peer: string) {
    super('JOINED', `${peer} has joined, and connects as a member next.`, { retryable: true });
  }
}

function interrupted(error: unknown): FlowmeshError {
  return new FlowmeshError(
    'ADMISSION_INTERRUPTED',
    `The connection ended before it was admitted: ${reasonOf(error)}.`,
    {
      retryable: true,
      cause: error,
    },
  );
}

/** Messages on an encrypted connection that is not given to the muxer yet. */
export class Lines {
  readonly #connection: MessageStream;
  readonly #signal: AbortSignal;
  #lines: LengthPrefixedStream<MessageStream> | null = null;
  #bytesMax = 0;

  constructor(connection: MessageStream, signal: AbortSignal | undefined) {
    this.#connection = connection;
    const timeout = AbortSignal.timeout(ADMISSION_TIMEOUT_MS);
    this.#signal = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
  }

  async write(message: Parameters<typeof pack>[0]): Promise<void> {
    await this.#of(this.#bytesMax || STRANGER_BYTES_MAX).write(pack(message), { signal: this.#signal });
  }

  async read<S extends z.ZodType>(schema: S, bytesMax: number = STRANGER_BYTES_MAX): Promise<z.output<S>> {
    const message = await this.#of(bytesMax).read({ signal: this.#signal });
    return unpack(schema, message.subarray());
  }

  /** Says why, and gives the other side time to read it. */
  async refuse(error: FlowmeshError, proof: Uint8Array[]): Promise<void> {
    try {
      await this.write({ admitted: false, error: error.toShape(), statements: proof });
      await this.ended();
    } catch {
      // It is gone already: nobody is left to be told.
    }
  }

  /** The other side has closed the connection, or had time enough for it. */
  async ended(): Promise<void> {
    const late = AbortSignal.any([this.#signal, AbortSignal.timeout(REFUSAL_READ_MS)]);
    await this.#of(STRANGER_BYTES_MAX)
      .read({ signal: late })
      .catch(() => {}); // The end of the connection is what is waited for.
  }

  unwrap(): MessageStream {
    return this.#lines?.unwrap() ?? this.#connection;
  }

  /** Who may say more gets a larger buffer. */
  #of(bytesMax: number): LengthPrefixedStream<MessageStream> {
    if (this.#lines === null || bytesMax > this.#bytesMax) {
      this.#lines?.unwrap();
      this.#lines = lpStream(this.#connection, { maxDataLength: bytesMax, maxBufferSize: 2 * bytesMax });
      this.#bytesMax = bytesMax;
    }
    return this.#lines;
  }
}
