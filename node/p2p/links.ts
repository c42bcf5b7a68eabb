/**
 * One greeted stream per peer; how it comes about is in `handshake.ts`.
 *
 * 1. When a stream breaks, its peer is dialled once more before it is called lost. A goodbye is not redialled here.
 * 2. The state in a peer's hello is handed on before anything else it says.
 */
import type { Connection, Libp2p, Stream } from '@libp2p/interface';
import { FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import type { PeerState } from '../../scheduler/messages.ts';
import { dialableOf, parseAddress, parsePeerId, peerIn, relayIn } from './addresses.ts';
import { PeerUnreachableError, reasonOf } from './errors.ts';
import type { Hello } from './greeting.ts';
import { Handshake, type Link, type LinksOptions } from './handshake.ts';
import type { KnownPeers } from './known-peers.ts';
import type { Goodbye, PeerStream, StreamReceiver } from './peer-stream.ts';

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

export class Links {
  readonly #node: Libp2p;
  readonly #known: KnownPeers;
  readonly #events: LinkEvents;
  readonly #options: LinksOptions;
  readonly #self: string;
  readonly #handshake: Handshake;
  readonly #links = new Map<string, Link>();
  #stopping = false;

  constructor(node: Libp2p, known: KnownPeers, events: LinkEvents, options: LinksOptions) {
    this.#node = node;
    this.#known = known;
    this.#events = events;
    this.#options = options;
    this.#self = node.peerId.toString();
    const table = {
      find: (peer: string) => this.#links.get(peer),
      of: (peer: string) => this.#link(peer),
      dropIdle: (link: Link) => this.#dropIdle(link),
      connectedCount: () => this.connected().length,
      isStopping: () => this.#stopping,
      install: this.#install.bind(this),
    };
    this.#handshake = new Handshake({ node, known, table, options });
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
    link.attempt ??= this.#handshake
      .open(link)
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

  /** Lets a stream on a direct connection take the place of the one that goes through a relay. @throws as `open` */
  async move(peer: string, connection: Connection): Promise<void> {
    const link = this.#links.get(peer);
    if (link === undefined || link.stream === null || link.attempt !== null || this.#stopping) return;
    link.attempt = this.#handshake.move(link, connection).finally(() => {
      link.attempt = null;
      this.#dropIdle(link);
    });
    await link.attempt;
  }

  /** Takes a stream that another peer opened. */
  accept(raw: Stream, connection: Connection): void {
    this.#handshake.accept(raw, connection);
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

  #install(link: Link, stream: PeerStream, how: 'inbound' | 'outbound', hello: Hello, connection: Connection): void {
    if (link.greeting === stream) link.greeting = null;
    const before = link.stream;
    link.stream = stream;
    stream.receiver = this.#receiver(link, stream);
    const replaced = { code: REPLACED, message: 'A newer stream of this pair of peers is used instead.' };
    const moved = this.#known.get(link.peer)?.relay != null && connection.direct;
    // What is under way on a connection that still carries is let come to its end.
    if (moved) void before?.retire(replaced).then(() => this.#closeRelayed(link.peer));
    else void before?.close(replaced);
    const facts = {
      name: hello.state.name,
      protocolVersion: hello.protocol,
      direction: how,
      connectionId: connection.id,
      relay: connection.direct ? null : relayIn(connection.remoteAddr),
    };
    this.#known.connected(link.peer, hello.addresses, facts, dialableOf(connection));
    this.#events.greeted(link.peer, hello.state, how);
    for (const waiter of link.waiters) waiter.resolve(stream);
    link.waiters.clear();
  }

  async #closeRelayed(peer: string): Promise<void> {
    const relayed = this.#node.getConnections(parsePeerId(peer)).filter(({ direct }) => !direct);
    for (const connection of relayed) await connection.close().catch((error) => connection.abort(error));
    if (relayed.length > 0)
      this.#options.log.info({ peer }, 'a peer is reached directly; its relayed connection is closed');
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
