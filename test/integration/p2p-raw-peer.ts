/** A peer that keeps to the peer protocol only as far as a test wants. */
import type { Stream } from '@libp2p/interface';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { FrameReader, type Message, Outbox, packMessage, takeFrame } from '../../node/p2p/frames.ts';
import { helloOf, PEER_PROTOCOL } from '../../node/p2p/greeting.ts';
import { createHost, type Host } from '../../node/p2p/host.ts';
import type { P2PNetwork } from '../../node/p2p/network.ts';
import { recordingLog, stateNamed, until } from './p2p-peers.ts';

const PING_PROTOCOL = '/ipfs/ping/1.0.0';
const IGNORED_PINGS_MAX = 1_000;

export class RawStream {
  readonly received: Message[] = [];
  ended = false;
  readonly #stream: Stream;

  constructor(stream: Stream) {
    this.#stream = stream;
    const reader = new FrameReader();
    stream.addEventListener('message', ({ data }) => {
      this.received.push(...reader.push(data instanceof Uint8Array ? data : data.subarray()));
    });
    const end = (): void => {
      this.ended = true;
    };
    stream.addEventListener('remoteCloseWrite', end);
    stream.addEventListener('close', end);
  }

  bytes(bytes: Uint8Array): void {
    this.#stream.send(bytes);
  }

  abort(): void {
    this.#stream.abort(new Error('nobody needs it any more'));
  }

  send(...messages: Message[]): void {
    const outbox = new Outbox();
    for (const message of messages) outbox.push(packMessage(message));
    while (!outbox.empty) for (const chunk of takeFrame(outbox)) this.#stream.send(chunk);
  }

  async next(match: (message: Message) => boolean): Promise<Message> {
    await until(() => this.received.some(match), 'a message that the raw peer waits for');
    return this.received.find(match)!;
  }

  async goodbye(): Promise<{ code: string; message: string }> {
    const { params } = await this.next(({ method }) => method === 'goodbye');
    await until(() => this.ended, 'the end of the stream after the goodbye');
    return params as { code: string; message: string };
  }

  async greet(mesh = 'test'): Promise<void> {
    this.send({ id: 1, method: 'hello', params: helloOf(mesh, stateNamed('raw'), []) });
    await this.next(({ id }) => id === 1);
    this.send({ method: 'ready', params: {} });
  }
}

export class RawPeer {
  readonly #host: Host;

  private constructor(host: Host) {
    this.#host = host;
  }

  static async open(dataDir: string, listen: string[] = []): Promise<RawPeer> {
    const host = await createHost({
      mesh: 'test',
      listen,
      data_dir: dataDir,
      version: '0.1.0',
      mdns: false,
      gossip: false,
      denied: () => new Set(),
      log: recordingLog(),
    });
    await host.start();
    return new RawPeer(host);
  }

  get id(): string {
    return this.#host.node.peerId.toString();
  }

  /** From now on pings reach `onPing` and are not answered. */
  async ignorePings(onPing: () => void): Promise<void> {
    const { node } = this.#host;
    await node.unhandle(PING_PROTOCOL);
    await node.handle(PING_PROTOCOL, () => onPing(), { maxInboundStreams: IGNORED_PINGS_MAX });
  }

  /** Where it can be dialled, if it was opened with somewhere to listen. */
  get address(): string {
    return this.#host.node.getMultiaddrs()[0]!.toString();
  }

  /** Answers streams of a protocol that others open. */
  async handle(protocol: string, accept: (stream: RawStream) => void): Promise<void> {
    await this.#host.node.handle(protocol, (stream) => accept(new RawStream(stream)));
  }

  async stream(to: Pick<P2PNetwork, 'addresses'>, protocol = PEER_PROTOCOL): Promise<RawStream> {
    const target: Multiaddr = multiaddr(to.addresses()[0]!);
    return new RawStream(await this.#host.node.dialProtocol(target, protocol));
  }

  close(): Promise<void> {
    return this.#host.stop();
  }
}
