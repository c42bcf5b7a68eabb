/**
 * A member with a valid certificate that keeps to no rule: it says what a test wants, on any protocol, and answers what
 * it likes. What honest peers make of it is what is tested.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import type { ErrorShape, JsonObject, JsonValue } from '../../dag/errors.ts';
import { Authority } from '../../node/membership/authority.ts';
import type { Membership } from '../../node/membership/membership.ts';
import { createSigner } from '../../node/membership/signer.ts';
import { Admission } from '../../node/p2p/admission.ts';
import type { Message } from '../../node/p2p/frames.ts';
import { helloOf, PEER_PROTOCOL } from '../../node/p2p/greeting.ts';
import { createHost, type Host } from '../../node/p2p/host.ts';
import type { Lease, LeaseToken, PeerState } from '../../scheduler/messages.ts';
import { Signatures } from '../../scheduler/signatures.ts';
import { recordingLog, stateNamed, until } from '../integration/p2p-peers.ts';
import { RawStream } from '../integration/p2p-raw-peer.ts';

/** Whom it talks to. */
export interface Target {
  readonly self: string;
  addresses(): string[];
}

export type Answer = { result: JsonValue } | { error: Pick<ErrorShape, 'code'> & Partial<ErrorShape> };
type Handler = (params: JsonObject, from: string) => JsonValue;

/** The code of an error, or `answered`. */
export function codeOf(answer: Answer): string {
  return 'error' in answer ? answer.error.code : ANSWERED;
}
export const ANSWERED = 'answered';
/** What was asked on a stream that ended. */
export const CLOSED = 'CLOSED';

/** Asked while more answers waited to be read than may. */
export const DROPPED = 'DROPPED';
const ASKED_AGAIN_MS = 200;

const NOTHING = { feed: null, rows: [], whole: true, head_seq: 0, complete: true };

/** One greeted stream to an honest peer. */
export class Talk {
  readonly raw: RawStream;
  readonly #of: LyingMember;
  readonly #from: string;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #lastId = 100;
  #read = 0;

  constructor(of: LyingMember, from: string, raw: RawStream, onChunk: (listener: () => void) => void) {
    this.#of = of;
    this.#from = from;
    this.raw = raw;
    onChunk(() => this.#take());
  }

  #take(): void {
    for (; this.#read < this.raw.received.length; this.#read++) this.#on(this.raw.received[this.#read]!);
    if (!this.raw.ended) return;
    this.raw.abort(); // a connection carries a few streams at once
    for (const answer of this.#waiting.values()) answer({ error: { code: CLOSED } });
    this.#waiting.clear();
  }

  #on({ id, method, params, result, error }: Message): void {
    if (method !== undefined) {
      if (id !== undefined) this.raw.send({ id, result: this.#of.answer(method, params as JsonObject, this.#from) });
      return;
    }
    const waiting = this.#waiting.get(id!);
    this.#waiting.delete(id!);
    waiting?.(error === undefined ? { result: (result ?? null) as JsonValue } : { error });
  }

  /** Resolves with the answer, also when that is an error or the end of the stream. */
  ask(method: string, params: unknown): Promise<Answer> {
    if (this.raw.ended) return Promise.resolve({ error: { code: CLOSED } });
    const id = ++this.#lastId;
    const answer = new Promise<Answer>((resolve) => this.#waiting.set(id, resolve));
    this.raw.send({ id, method, params });
    return answer;
  }

  /** Everything at once, and all answers are read. @returns the codes of the answers, with how often each came */
  async flood(method: string, params: unknown, count: number): Promise<Map<string, number>> {
    const codes: string[] = Array(count).fill(DROPPED);
    for (let at = 0; at < count; at++) {
      void this.ask(method, params).then((answer) => {
        codes[at] = codeOf(answer);
      });
    }
    let isRead = false;
    while (!isRead) {
      const last = this.ask('describe', {}).then(() => true);
      isRead = await Promise.race([last, sleep(ASKED_AGAIN_MS, false)]);
    }
    return new Map(
      Array.from(
        Map.groupBy(codes, (code) => code),
        ([code, all]) => [code, all.length],
      ),
    );
  }
}

export class LyingMember {
  readonly membership: Membership;
  readonly host: Host;
  readonly leases: Lease[] = [];
  readonly asked: { method: string; params: JsonObject; from: string }[] = [];
  /** What it answers instead of the usual. */
  readonly answers = new Map<string, Handler>();
  /** As its hello and its beats say. */
  state: PeerState;
  readonly #signatures: Signatures;
  readonly #talks = new Map<string, Talk>();

  private constructor(membership: Membership, host: Host) {
    this.membership = membership;
    this.host = host;
    this.state = stateNamed(`liar-${membership.self.slice(-4)}`);
    this.#signatures = new Signatures({ signer: createSigner(membership.key), self: membership.self });
  }

  /** @param membership what it joined with; closed with it */
  static async start(membership: Membership, listen: string[] = []): Promise<LyingMember> {
    const log = recordingLog();
    const authority = new Authority(membership);
    const host = await createHost({
      mesh: membership.ledger.mesh,
      listen,
      data_dir: membership.dataDir,
      version: '0.1.0',
      mdns: false,
      gossip: true,
      denied: () => new Set(),
      admission: new Admission({ membership, authority, log }),
      log,
    });
    await host.start();
    return new LyingMember(membership, host);
  }

  get self(): string {
    return this.membership.self;
  }

  /** Where it can be dialled, if it listens. */
  get addresses(): string[] {
    return this.host.node.getMultiaddrs().map(String);
  }

  /** Its one worker offers this action, with so many slots. */
  works(action: string, slots = 4): this {
    const worker = {
      ...{ worker_id: `worker-${this.self.slice(-4)}`, actions: [action], labels: [], slots, running: 0 },
      ...{ cpu_cores: null, memory_gb: null, completed: 0, failed: 0, status: 'active' as const },
      ...{ registered_at: '2026-01-01T00:00:00.000Z', metadata: {} },
    };
    this.state = { ...this.state, workers: [worker] };
    return this;
  }

  /** An opened stream of any protocol; nothing was said on it. */
  async stream(to: Target, protocol: string = PEER_PROTOCOL): Promise<RawStream> {
    return new RawStream(await this.host.node.dialProtocol(multiaddr(to.addresses()[0]!), protocol));
  }

  /** The greeted stream to a peer, opened when there is none. */
  async talking(to: Target): Promise<Talk> {
    const open = this.#talks.get(to.self);
    const talk = open === undefined || open.raw.ended ? await this.talk(to) : open;
    this.#talks.set(to.self, talk);
    return talk;
  }

  /** A greeted stream. The peer takes this one for connected from now on. */
  async talk(to: Target): Promise<Talk> {
    const stream = await this.host.node.dialProtocol(multiaddr(to.addresses()[0]!), PEER_PROTOCOL);
    const talk = new Talk(this, to.self, new RawStream(stream), (listener) => {
      stream.addEventListener('message', listener);
      stream.addEventListener('remoteCloseWrite', listener);
      stream.addEventListener('close', listener);
    });
    const greeted = await talk.ask('hello', helloOf(this.membership.ledger.mesh, this.state, []));
    if ('error' in greeted) throw new Error(`the greeting was refused: ${greeted.error.code}`);
    talk.raw.send({ method: 'ready', params: {} });
    return talk;
  }

  /** A beat of its state, with what the test adds. */
  beat(
    talk: Talk,
    over: { holding?: LeaseToken[]; knows?: unknown[]; state?: Partial<PeerState> } = {},
  ): Promise<Answer> {
    const { holding = [], knows = [], state = {} } = over;
    return talk.ask('beat', { state: { ...this.state, ...state }, holding, knows });
  }

  answer(method: string, params: JsonObject, from: string): JsonValue {
    this.asked.push({ method, params, from });
    if (method === 'lease') this.leases.push(...(params['leases'] as unknown as Lease[]));
    const own = this.answers.get(method);
    if (own !== undefined) return own(params, from);
    const items = (params?.['items'] ?? []) as { content_hash: string }[];
    if (method === 'lease') return { items: [] };
    if (method === 'locate') return { found: items.map(() => null) };
    if (method === 'reserve') return { holders: items.map(({ content_hash }) => ({ peer_id: from, content_hash })) };
    if (method === 'push') return { seq: params['head_seq']! };
    if (method === 'pull') return NOTHING;
    if (method === 'takeover') return { holding: [] };
    if (method === 'describe') return this.state as unknown as JsonObject;
    return {};
  }

  async leased(count: number): Promise<Lease> {
    await until(() => this.leases.length >= count, `${count} leases come`);
    return this.leases[count - 1]!;
  }

  /** A frame of results with its own signature. */
  results(...results: Parameters<Signatures['frame']>[0][number][]): JsonObject {
    return { results, ...this.#signatures.frame(results) } as unknown as JsonObject;
  }

  /** As if it were the owner of a feed: signs its record. */
  get signatures(): Signatures {
    return this.#signatures;
  }

  /** A message of the DHT's own protocol, as its library sends them. */
  async dht(to: string, message: JsonObject | object): Promise<void> {
    const { network } = this.host.node.services.dht as unknown as {
      network: { sendMessage(to: unknown, message: unknown): AsyncIterable<unknown> };
    };
    for await (const _ of network.sendMessage(peerIdFromString(to), message));
  }

  async close(): Promise<void> {
    await this.host.stop();
    this.membership.close();
  }
}
