/**
 * One greeted stream per peer.
 *
 * 1. Of two streams opened at once, the one of the smaller PeerId is used: each side can tell without asking.
 * 2. A greeted stream gives way to a new one that the other side opened and confirmed: it would not have opened one
 *    if it still had the old.
 * 3. When a stream breaks, its peer is dialled once more before it is called lost. A goodbye is not redialled here.
 * 4. The state in a peer's hello is handed on before anything else it says.
 */
import type { Connection, Libp2p, Stream } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import type { PeerState } from '../../scheduler/messages.ts';
import type { Log } from '../../scheduler/ports.ts';
import { dialable, dialableOf, parseAddress, parsePeerId, peerIn } from './addresses.ts';
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
import { type Goodbye, PeerStream, type PeerStreamLimits, type StreamReceiver } from './peer-stream.ts';

/** Peers with a greeted stream. */
export const PEERS_CONNECTED_MAX = 256;
/** One try to reach a peer: dialling all its addresses, opening the stream, greeting. */
const OPEN_TIMEOUT_MS = 10_000;
/** How long the one redial may take before the peer is called lost. */
const REDIAL_TIMEOUT_MS = 2_000;

/** Goodbyes with these codes are not an accident: the stream is not redialled at once. */
export const DISCONNECTED = 'DISCONNECTED';
export const STOPPING = 'STOPPING';
const REPLACED = 'REPLACED';

export interface LinkEvents {
  greeted(peer: string, state: PeerState, how: 'inbound' | 'outbound'): void;
  /** The stream ended and the redial failed, or the other side said goodbye. */
  lost(peer: string, goodbye: Goodbye | null): void;
  request(peer: string, method: string, params: unknown): Promise<JsonValue | undefined>;
  notification(peer: string, method: string, params: unknown): void;
}

interface Link {
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
  describe: () => PeerState;
  addresses: () => string[];
  denied: () => Set<string>;
  limits: PeerStreamLimits | undefined;
  log: Log;
}

export class Links {
  readonly #node: Libp2p;
  readonly #known: KnownPeers;
  readonly #events: LinkEvents;
  readonly #options: LinksOptions;
  readonly #self: string;
  readonly #links = new Map<string, Link>();
  #stopping = false;

  constructor(node: Libp2p, known: KnownPeers, events: LinkEvents, options: LinksOptions) {
    this.#node = node;
    this.#known = known;
    this.#events = events;
    this.#options = options;
    this.#self = node.peerId.toString();
  }

  stream(peer: string): PeerStream | null {
    return this.#links.get(peer)?.stream ?? null;
  }

  connected(): string[] {
    const peers: string[] = [];
    for (const link of this.#links.values()) if (link.stream !== null) peers.push(link.peer);
    return peers;
  }

  /** A try to reach the peer is running. */
  connecting(peer: string): boolean {
    const link = this.#links.get(peer);
    return link !== undefined && (link.attempt !== null || link.greeting !== null);
  }

  /** Resolves when the one redial of a broken stream has ended; null when there is none. */
  redial(peer: string): Promise<void> | null {
    return this.#links.get(peer)?.redial ?? null;
  }

  /**
   * The greeted stream to a peer, opened when there is none.
   *
   * @throws PeerUnreachableError, InvalidPeerIdError, WRONG_MESH, VERSION_MISMATCH
   */
  async open(peer: string, addresses: readonly string[], signal?: AbortSignal): Promise<PeerStream> {
    if (peer === this.#self) throw new PeerUnreachableError(peer, 'it is this peer itself');
    if (this.#stopping) throw new PeerUnreachableError(peer, 'this peer is stopping');
    parsePeerId(peer);
    const unheardOf = this.#known.get(peer) === undefined;
    this.#known.learn(peer, addresses);
    const link = this.#link(peer);
    if (link.stream !== null) return link.stream;
    link.attempt ??= this.#attempt(link)
      .catch((error: unknown) => {
        // Nobody else named it either: it may not exist, and is not to be listed for ever.
        if (unheardOf) this.#known.forget(peer);
        throw error;
      })
      .finally(() => {
        link.attempt = null;
        this.#dropIdle(link);
      });
    return signal === undefined ? link.attempt : orAborted(link.attempt, signal, peer);
  }

  /**
   * The greeted stream to whoever answers at an address, which may lack a PeerId.
   *
   * @throws as `open`, and InvalidAddressError
   */
  async openAddress(address: string, signal: AbortSignal): Promise<PeerStream> {
    const target = parseAddress(address);
    const named = peerIn(target);
    if (named !== undefined) return this.open(named, [address], signal);
    let connection: Connection;
    try {
      connection = await this.#node.dial(target, { signal });
    } catch (error) {
      throw new PeerUnreachableError(`at ${address}`, reasonOf(error), error);
    }
    return this.open(connection.remotePeer.toString(), [address], signal);
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
        return helloOf(this.#options.mesh, this.#options.describe(), this.#options.addresses());
      },
      notification: (method) => {
        if (method !== READY || hello === null) return void expectHello();
        clearTimeout(timer);
        this.#install(this.#link(peer), stream, 'inbound', hello, connection);
      },
      closed: () => {
        clearTimeout(timer);
        const link = this.#links.get(peer);
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

  /** Ends the stream with a goodbye, and the connection under it. @throws InvalidPeerIdError */
  async close(peer: string, goodbye: Goodbye): Promise<boolean> {
    const target = parsePeerId(peer);
    const stream = this.stream(peer);
    await stream?.close(goodbye);
    await this.#node.hangUp(target);
    return stream !== null;
  }

  /** Breaks the connections to denied peers without a goodbye, as a cut cable would. */
  dropDenied(): void {
    for (const connection of this.#node.getConnections()) {
      if (this.#options.denied().has(connection.remotePeer.toString())) {
        connection.abort(new Error('the connection to this peer is denied'));
      }
    }
  }

  /** Says goodbye to all. Nothing is opened or accepted any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const goodbye = { code: STOPPING, message: 'The peer is stopping.' };
    const closing = Array.from(this.#links.values(), async ({ greeting, stream }) => {
      greeting?.abort('this peer is stopping');
      await stream?.close(goodbye);
    });
    await Promise.all(closing);
  }

  #link(peer: string): Link {
    let link = this.#links.get(peer);
    if (link === undefined) {
      link = {
        peer,
        stream: null,
        attempt: null,
        attemptSpoke: false,
        attemptYielded: false,
        attemptRefused: null,
        greeting: null,
        redial: null,
        waiters: new Set(),
      };
      this.#links.set(peer, link);
    }
    return link;
  }

  #dropIdle(link: Link): void {
    const idle = link.stream === null && link.attempt === null && link.greeting === null && link.redial === null;
    if (idle && link.waiters.size === 0 && this.#links.get(link.peer) === link) this.#links.delete(link.peer);
  }

  async #attempt(link: Link): Promise<PeerStream> {
    const signal = AbortSignal.timeout(OPEN_TIMEOUT_MS);
    try {
      const connection = await this.#connection(link, signal);
      const ready = await this.#otherSide(link);
      return ready ?? (await this.#greet(link, connection, signal));
    } catch (error) {
      if (isRefusal(error)) throw error;
      if (link.attemptRefused !== null) throw link.attemptRefused;
      if (error instanceof FlowmeshError) throw error;
      if (isUnsupported(error)) throw new ProtocolUnsupportedError(link.peer, PEER_PROTOCOL, error);
      throw new PeerUnreachableError(link.peer, reasonOf(error), error);
    } finally {
      link.attemptSpoke = false;
      link.attemptYielded = false;
      link.attemptRefused = null;
    }
  }

  async #connection(link: Link, signal: AbortSignal): Promise<Connection> {
    const peer = peerIdFromString(link.peer);
    const open = this.#node.getConnections(peer).find((connection) => connection.status === 'open');
    if (open !== undefined) return open;
    const addresses = new Set(this.#known.get(link.peer)?.addresses);
    if (await this.#node.peerStore.has(peer)) {
      for (const { multiaddr } of (await this.#node.peerStore.get(peer)).addresses) addresses.add(multiaddr.toString());
    }
    const targets = [...addresses].flatMap((address) => dialable(address, link.peer));
    // Without an address libp2p asks the DHT for one.
    return this.#node.dial(targets.length > 0 ? targets : peer, { signal });
  }

  /** The stream that the other side has opened or is about to, or null. */
  async #otherSide(link: Link): Promise<PeerStream | null> {
    if (link.stream !== null) return link.stream;
    return link.greeting === null ? null : this.#arrival(link);
  }

  async #greet(link: Link, connection: Connection, signal: AbortSignal): Promise<PeerStream> {
    const stream = await this.#newStream(link, connection, signal);
    const theirs = await this.#otherSide(link);
    if (theirs !== null) {
      stream.abort('the other side opened a stream first');
      return theirs;
    }
    link.attemptSpoke = true;
    try {
      const { mesh, describe, addresses } = this.#options;
      const answer = await stream.request(HELLO, helloOf(mesh, describe(), addresses()), GREETING_TIMEOUT_MS);
      const hello = readHello(answer, this.#self, mesh);
      if (link.attemptYielded) throw new DuplicateStreamError();
      stream.notify(READY, {});
      this.#install(link, stream, 'outbound', hello, connection);
      return stream;
    } catch (error) {
      if (error instanceof FlowmeshError && isRefusal(error)) {
        // When it is this side that refuses, the goodbye is what tells the other one.
        stream.close(error).then(() => connection.close().catch((failed) => connection.abort(failed)));
        throw error;
      }
      stream.abort('the greeting failed');
      const yielded = link.attemptYielded || (error instanceof FlowmeshError && error.code === 'DUPLICATE_STREAM');
      if (yielded) return link.stream ?? (await this.#arrival(link));
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
      const fresh = await this.#connection(link, signal);
      return wrap(await fresh.newStream(PEER_PROTOCOL, { signal }));
    }
  }

  /** Decides about another peer's hello. @throws what it is to be told */
  #answer(peer: string, stream: PeerStream, params: unknown): Hello {
    if (this.#stopping) throw new PeerUnreachableError(this.#self, 'it is stopping');
    const hello = readHello(params, this.#self, this.#options.mesh);
    const link = this.#link(peer);
    if (link.stream === null && this.connected().length >= PEERS_CONNECTED_MAX) {
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
    const link = this.#links.get(peer);
    if (link !== undefined && isRefusal(refusal)) link.attemptRefused = refusal;
    // After the answer, which is on its way to the outbox now.
    setImmediate(() => void stream.close(refusal));
  }

  #install(link: Link, stream: PeerStream, how: 'inbound' | 'outbound', hello: Hello, connection: Connection): void {
    if (link.greeting === stream) link.greeting = null;
    const before = link.stream;
    link.stream = stream;
    stream.receiver = this.#receiver(link, stream);
    void before?.close({ code: REPLACED, message: 'A newer stream of this pair of peers is used instead.' });
    this.#known.connected(link.peer, [...hello.addresses, ...dialableOf(connection, how)], {
      name: hello.state.name,
      protocolVersion: hello.protocol,
      direction: how,
      connectionId: connection.id,
    });
    this.#events.greeted(link.peer, hello.state, how);
    for (const waiter of link.waiters) waiter.resolve(stream);
    link.waiters.clear();
  }

  #receiver(link: Link, stream: PeerStream): StreamReceiver {
    const { peer } = link;
    return {
      request: (method, params) => this.#events.request(peer, method, params),
      notification: (method, params) => this.#events.notification(peer, method, params),
      closed: (goodbye, by) => this.#onClosed(link, stream, goodbye, by),
    };
  }

  #onClosed(link: Link, stream: PeerStream, goodbye: Goodbye | null, by: 'here' | 'there'): void {
    this.#known.streamEnded(link.peer, stream);
    if (link.stream !== stream) return;
    link.stream = null;
    this.#known.disconnected(link.peer, goodbye?.code === DISCONNECTED);
    if (this.#stopping) return;
    if (goodbye !== null || this.#options.denied().has(link.peer)) {
      this.#options.log.info({ peer: link.peer, goodbye, by }, 'the stream of a peer ended');
      this.#events.lost(link.peer, goodbye);
      this.#dropIdle(link);
      return;
    }
    link.redial = this.#redialOnce(link).finally(() => {
      link.redial = null;
      this.#dropIdle(link);
    });
  }

  async #redialOnce(link: Link): Promise<void> {
    try {
      await this.open(link.peer, [], AbortSignal.timeout(REDIAL_TIMEOUT_MS));
    } catch (error) {
      if (link.stream !== null || this.#stopping) return;
      this.#options.log.info({ peer: link.peer, reason: reasonOf(error) }, 'lost a peer');
      this.#events.lost(link.peer, null);
    }
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
    this.#dropIdle(link);
  }
}

function isUnsupported(error: unknown): boolean {
  return error instanceof Error && error.name === 'UnsupportedProtocolError';
}

function orAborted<T>(promise: Promise<T>, signal: AbortSignal, peer: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      const { reason } = signal;
      reject(
        reason instanceof FlowmeshError ? reason : new PeerUnreachableError(peer, `given up (${reasonOf(reason)})`),
      );
    };
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
