/**
 * The handshake of a peer stream: hello, its answer, ready.
 *
 * 1. Of two streams opened at once, the one of the smaller PeerId is used: each side can tell without asking.
 * 2. A greeted stream gives way to a new one that the other side opened and confirmed: it would not have opened one
 *    if it still had the old.
 *
 * What becomes of a greeted stream is the business of `links.ts`.
 */
import type { Connection, Libp2p, Stream } from '@libp2p/interface';
import { FlowmeshError } from '../../dag/errors.ts';
import type { PeerState } from '../../scheduler/messages.ts';
import type { Log } from '../../scheduler/ports.ts';
import type { Dialler } from './dial-order.ts';
import {
  DuplicateStreamError,
  isRefusal,
  PeerBusyError,
  PeerUnreachableError,
  ProtocolUnsupportedError,
  reasonOf,
} from './errors.ts';
import { GREETING_TIMEOUT_MS, HELLO, type Hello, helloOf, PEER_PROTOCOL, READY, readHello } from './greeting.ts';
import type { KnownPeers } from './known-peers.ts';
import { PeerStream, type PeerStreamLimits, type StreamReceiver } from './peer-stream.ts';

/** Peers with a greeted stream. */
export const PEERS_CONNECTED_MAX = 256;
/** One try to reach a peer: dialling all its addresses, opening the stream, greeting. */
const OPEN_TIMEOUT_MS = 10_000;
/** What is between this peer and another one. */
export interface Link {
  readonly peer: string;
  stream: PeerStream | null;
  /** This side's running try to open a stream. */
  attempt: Promise<PeerStream> | null;
  /** The try has sent its hello, so the rule of invariant 1 applies to it. */
  attemptSpoke: boolean;
  /** The try lost to the other side's stream. */
  attemptYielded: boolean;
  /** Why the other side's stream was refused during the try: the connection ends under the try, and this is why. */
  attemptRefused: FlowmeshError | null;
  /** The other side's stream between its hello and its ready. */
  greeting: PeerStream | null;
  redial: Promise<void> | null;
  /** Waiting for the other side's stream. */
  waiters: Set<{ resolve: (stream: PeerStream) => void; reject: (error: Error) => void }>;
}

export interface LinksOptions {
  mesh: string;
  dialler: Dialler;
  /** What this peer says of itself to another one. */
  describe: (peer: string) => PeerState;
  addresses: () => string[];
  denied: () => Set<string>;
  limits: PeerStreamLimits | undefined;
  /** Why the last connection to a peer was not admitted, there or here. */
  refusal?: (peer: string) => FlowmeshError | undefined;
  log: Log;
}

/** The links of this peer, which the handshake looks up and completes. */
export interface LinkTable {
  find(peer: string): Link | undefined;
  /** Made when there is none. */
  of(peer: string): Link;
  dropIdle(link: Link): void;
  connectedCount(): number;
  isStopping(): boolean;
  /** The stream is greeted: it is the peer's from now on. */
  install(link: Link, stream: PeerStream, how: 'inbound' | 'outbound', hello: Hello, connection: Connection): void;
}

export class Handshake {
  readonly #node: Libp2p;
  readonly #known: KnownPeers;
  readonly #table: LinkTable;
  readonly #options: LinksOptions;
  readonly #self: string;

  constructor(parts: { node: Libp2p; known: KnownPeers; table: LinkTable; options: LinksOptions }) {
    this.#node = parts.node;
    this.#known = parts.known;
    this.#table = parts.table;
    this.#options = parts.options;
    this.#self = parts.node.peerId.toString();
  }

  /** Takes a stream that another peer opened. */
  accept(raw: Stream, connection: Connection): void {
    const peer = connection.remotePeer.toString();
    let hello: Hello | null = null;
    const expectHello = (): FlowmeshError => {
      const error = new FlowmeshError('HELLO_EXPECTED', 'The first message of a peer stream must be its hello.');
      void stream.close(error);
      return error;
    };
    const greeter: StreamReceiver = {
      request: async (method, params) => {
        if (method !== HELLO || hello !== null) throw expectHello();
        try {
          hello = this.#answer(peer, stream, params);
        } catch (error) {
          this.#refuse(stream, error);
          throw error;
        }
        return helloOf(this.#options.mesh, this.#options.describe(peer), this.#options.addresses());
      },
      notification: (method) => {
        if (method !== READY || hello === null) return void expectHello();
        clearTimeout(timer);
        this.#table.install(this.#table.of(peer), stream, 'inbound', hello, connection);
      },
      closed: () => {
        clearTimeout(timer);
        const link = this.#table.find(peer);
        if (link?.greeting === stream) this.#greetingFailed(link);
      },
    };
    const stream = new PeerStream(raw, peer, greeter, this.#options.log, this.#options.limits);
    const timer = setTimeout(
      () =>
        void stream.close({
          code: 'GREETING_TIMEOUT',
          message: `No hello and ready within ${GREETING_TIMEOUT_MS} ms.`,
        }),
      GREETING_TIMEOUT_MS,
    );
  }

  /**
   * One try to reach a peer: a stream that it has greeted, of this side's opening or of its own.
   *
   * @throws PeerUnreachableError, WRONG_MESH, VERSION_MISMATCH
   */
  async open(link: Link): Promise<PeerStream> {
    return this.#attempt(link, async (signal) => {
      const connection = await this.#options.dialler.connection(link.peer, signal);
      const ready = await this.#otherSide(link, null);
      return ready ?? (await this.#greet(link, connection, signal, null));
    });
  }

  /** As `open`, for a stream on this connection in place of the one that is there. */
  move(link: Link, connection: Connection): Promise<PeerStream> {
    return this.#attempt(link, (signal) => this.#greet(link, connection, signal, link.stream));
  }

  async #attempt(link: Link, attempt: (signal: AbortSignal) => Promise<PeerStream>): Promise<PeerStream> {
    try {
      return await attempt(AbortSignal.timeout(OPEN_TIMEOUT_MS));
    } catch (error) {
      if (isRefusal(error)) throw error;
      if (link.attemptRefused !== null) throw link.attemptRefused;
      const notAdmitted = this.#options.refusal?.(link.peer);
      if (notAdmitted !== undefined && isRefusal(notAdmitted)) throw notAdmitted;
      if (error instanceof FlowmeshError) throw error;
      if (isUnsupported(error)) throw new ProtocolUnsupportedError(link.peer, PEER_PROTOCOL, error);
      throw new PeerUnreachableError(link.peer, reasonOf(error), error);
    } finally {
      link.attemptSpoke = false;
      link.attemptYielded = false;
      link.attemptRefused = null;
    }
  }

  /** The stream that the other side has opened or is about to, or null. `before`: the one that is to be replaced. */
  async #otherSide(link: Link, before: PeerStream | null): Promise<PeerStream | null> {
    if (link.stream !== before) return link.stream ?? this.#otherSide(link, null);
    return link.greeting === null ? null : this.#arrival(link);
  }

  async #greet(
    link: Link,
    connection: Connection,
    signal: AbortSignal,
    before: PeerStream | null,
  ): Promise<PeerStream> {
    const stream = await this.#newStream(link, connection, signal);
    const theirs = await this.#otherSide(link, before);
    if (theirs !== null) {
      stream.abort('the other side opened a stream first');
      return theirs;
    }
    link.attemptSpoke = true;
    try {
      const { mesh, describe, addresses } = this.#options;
      const answer = await stream.request(HELLO, helloOf(mesh, describe(link.peer), addresses()), GREETING_TIMEOUT_MS);
      const hello = readHello(answer, this.#self, mesh);
      if (link.attemptYielded) throw new DuplicateStreamError();
      stream.notify(READY, {});
      this.#table.install(link, stream, 'outbound', hello, connection);
      return stream;
    } catch (error) {
      if (error instanceof FlowmeshError && isRefusal(error)) {
        // When it is this side that refuses, the goodbye is what tells the other one.
        stream.close(error).then(() => connection.close().catch((failed) => connection.abort(failed)));
        throw error;
      }
      stream.abort('the greeting failed');
      const yielded = link.attemptYielded || (error instanceof FlowmeshError && error.code === 'DUPLICATE_STREAM');
      if (yielded) return (await this.#otherSide(link, before)) ?? (await this.#arrival(link));
      throw error;
    }
  }

  async #newStream(link: Link, connection: Connection, signal: AbortSignal): Promise<PeerStream> {
    const waiting: StreamReceiver = {
      request: async () => {
        throw new FlowmeshError(
          'HELLO_EXPECTED',
          'The opener of this stream is still waiting for the answer to hello.',
        );
      },
      notification: () => {},
      closed: () => {},
    };
    const wrap = (raw: Stream): PeerStream =>
      new PeerStream(raw, link.peer, waiting, this.#options.log, this.#options.limits);
    try {
      return wrap(await connection.newStream(PEER_PROTOCOL, { signal }));
    } catch (error) {
      if (signal.aborted || isUnsupported(error)) throw error;
      // The connection was half dead: a fresh one tells whether the peer is.
      connection.abort(new Error('no stream could be opened on it'));
      const fresh = await this.#options.dialler.connection(link.peer, signal);
      return wrap(await fresh.newStream(PEER_PROTOCOL, { signal }));
    }
  }

  /** Decides about another peer's hello. @throws what it is to be told */
  #answer(peer: string, stream: PeerStream, params: unknown): Hello {
    if (this.#table.isStopping()) throw new PeerUnreachableError(this.#self, 'it is stopping');
    const hello = readHello(params, this.#self, this.#options.mesh);
    const link = this.#table.of(peer);
    if (link.stream === null && this.#table.connectedCount() >= PEERS_CONNECTED_MAX) {
      throw new PeerBusyError(this.#self, `it has ${PEERS_CONNECTED_MAX} connected peers already`);
    }
    if (link.attemptSpoke && this.#self < link.peer) throw new DuplicateStreamError();
    link.attemptYielded = link.attemptSpoke;
    const before = link.greeting;
    link.greeting = stream;
    before?.abort('the peer greeted anew');
    return hello;
  }

  #refuse(stream: PeerStream, error: unknown): void {
    const refusal = error instanceof FlowmeshError ? error : new FlowmeshError('INTERNAL', reasonOf(error));
    const { peer } = stream;
    if (!(refusal instanceof DuplicateStreamError)) {
      this.#options.log.warn({ peer, code: refusal.code }, `refused a peer: ${refusal.message}`);
    }
    const link = this.#table.find(peer);
    if (link !== undefined && isRefusal(refusal)) link.attemptRefused = refusal;
    // After the answer, which is on its way to the outbox now.
    setImmediate(() => void stream.close(refusal));
  }

  /** Waits for the other side's `ready`. */
  #arrival(link: Link): Promise<PeerStream> {
    return new Promise((resolve, reject) => {
      const fail = (error: Error): void => {
        clearTimeout(timer);
        link.waiters.delete(waiter);
        reject(error);
      };
      const waiter = {
        resolve: (stream: PeerStream) => {
          clearTimeout(timer);
          resolve(stream);
        },
        reject: fail,
      };
      const why = `it opened a stream and did not finish its greeting within ${GREETING_TIMEOUT_MS} ms`;
      const timer = setTimeout(() => fail(new PeerUnreachableError(link.peer, why)), GREETING_TIMEOUT_MS);
      link.waiters.add(waiter);
    });
  }

  #greetingFailed(link: Link): void {
    link.greeting = null;
    const error = new PeerUnreachableError(link.peer, 'it opened a stream and closed it before its greeting ended');
    for (const waiter of [...link.waiters]) waiter.reject(error);
    this.#table.dropIdle(link);
  }
}

function isUnsupported(error: unknown): boolean {
  return error instanceof Error && error.name === 'UnsupportedProtocolError';
}
