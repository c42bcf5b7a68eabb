/**
 * A peer whose every word is the test's: it says what it offers, takes leases, and answers and reports what and when
 * the test wants. What the real peer at the other end makes of it is what is tested.
 */
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import type { AttemptResult, Lease, LeaseToken, PeerState, Push } from '../../scheduler/messages.ts';
import { SimulatedNetwork } from '../simulation/simulated-network.ts';
import { Scene, task } from './scene.ts';

const BEAT_MS = 1_000;
const DEADLINE_MS = 5_000;
const NOTHING = { feed: null, rows: [], whole: true, head_seq: 0, complete: true };

export class HandPeer {
  readonly scene: Scene;
  readonly network: SimulatedNetwork;
  readonly leases: Lease[] = [];
  readonly cancels: (LeaseToken & { force: boolean; reason: string })[] = [];
  readonly messages: { from: string; method: string; params: JsonObject }[] = [];
  /** What its beats say it holds. */
  holding: LeaseToken[] = [];
  /** Says nothing while false. */
  beating = true;
  /** What it answers instead of the usual, by method. */
  readonly answers = new Map<string, (params: JsonObject, from: string) => JsonValue | Promise<JsonValue>>();
  state: PeerState;
  /** By feed: what it answers to a pull. */
  readonly #kept = new Map<string, JsonObject>();

  /** @param labels of its one worker, which runs `fn:hand` with `slots` slots */
  constructor(scene: Scene, name: string, { slots = 4, labels = [] as string[] } = {}) {
    this.scene = scene;
    this.network = new SimulatedNetwork(name, scene.mesh.board);
    this.state = {
      name,
      version: '0.0.0',
      feeds: [{ feed_id: `feed-of-${name}`, epoch: 1, base_seq: 0, nonce: '' }],
      workers: [
        {
          worker_id: `worker-of-${name}`,
          actions: ['fn:hand'],
          labels,
          cpu_cores: null,
          memory_gb: null,
          slots,
          running: 0,
          completed: 0,
          failed: 0,
          status: 'active',
          registered_at: '2026-01-01T00:00:00.000Z',
          metadata: {},
        },
      ],
      queued: 0,
      running: 0,
      paused: false,
      waiting: [],
      addresses: [],
    };
    this.network.attach(
      {
        onMessage: async (from, method, params) => await this.#answer(from, method, params as JsonObject),
        onOffer() {},
        onConnected() {},
        onDisconnected() {},
      },
      () => this.state,
    );
  }

  static async joins(
    scene: Scene,
    name: string,
    to: string[],
    options: { slots?: number; labels?: string[] } = {},
  ): Promise<HandPeer> {
    const peer = new HandPeer(scene, name, options);
    for (const other of to) await scene.run(peer.network.connect(other));
    peer.beatOn();
    await scene.pass(10);
    return peer;
  }

  /** Beats from now on. */
  beatOn(): void {
    if (this.network.isAlive && this.beating) for (const peer of this.network.connected()) void this.#sayHow(peer);
    this.scene.world.at(BEAT_MS, () => this.beatOn());
  }

  /** A beat now, heard by the time this resolves. */
  async beat(to: string): Promise<void> {
    await this.scene.run(this.#sayHow(to));
  }

  async #sayHow(to: string): Promise<void> {
    const beat = { state: this.state, holding: this.holding, knows: [] };
    await this.network.request(to, 'beat', beat as unknown as JsonObject, DEADLINE_MS).catch(() => {
      // A lost beat is what some tests are about.
    });
  }

  async #answer(from: string, method: string, params: JsonObject): Promise<JsonValue> {
    this.messages.push({ from, method, params });
    if (method === 'lease') this.leases.push(...(params['leases'] as unknown as Lease[]));
    if (method === 'cancel') this.cancels.push(...(params['items'] as unknown as typeof this.cancels));
    const own = this.answers.get(method);
    if (own !== undefined) return await own(params, from);
    if (method === 'lease') return { items: [] };
    if (method === 'locate') return { found: (params['items'] as JsonValue[]).map(() => null) };
    if (method === 'reserve') return { holders: grantedTo(from, params) };
    if (method === 'push') return this.#keep(params as unknown as Push);
    if (method === 'pull') return this.#kept.get(String(params['feed_id'])) ?? NOTHING;
    if (method === 'takeover') return { holding: this.#holdingOf(params['feed_id']!) };
    return {};
  }

  /** It takes every commit as if it had a disk, and says how far it has come, without the rows. */
  #keep({ feed_id, head_seq, rows }: Push): JsonValue {
    const records = rows.map(({ text }) => JSON.parse(text) as JsonObject);
    const feed = records.findLast(({ kind }) => kind === 'feed') ?? this.#kept.get(feed_id)?.['feed'] ?? null;
    this.#kept.set(feed_id, { ...NOTHING, feed, head_seq });
    return { seq: head_seq };
  }

  #holdingOf(feedId: JsonValue): JsonValue {
    return this.holding.filter(({ feed_id }) => feed_id === feedId) as unknown as JsonValue;
  }

  /** Sends what it likes. */
  ask(to: string, method: string, params: unknown): Promise<JsonValue> {
    return this.scene.run(this.network.request(to, method, params as JsonObject, DEADLINE_MS));
  }

  /** Lets time pass until this many leases have come, and returns the last of them. */
  async leased(count: number): Promise<Lease> {
    await this.scene.until(`${count} leases come`, () => this.leases.length >= count);
    return this.leases[count - 1]!;
  }

  /** Brings a result of a lease to its owner. */
  async result(to: string, lease: LeaseToken, over: Partial<AttemptResult> = {}): Promise<JsonValue> {
    return await this.ask(to, 'result', { results: [resultOf(lease, over)] });
  }
}

/** As an arbiter that knows nothing of these ids. */
export function grantedTo(peer_id: string, params: JsonObject): JsonValue {
  const items = params['items'] as { content_hash: string }[];
  return items.map(({ content_hash }) => ({ peer_id, content_hash }));
}

/** A success, but for what is said otherwise. */
export function resultOf(lease: LeaseToken, over: Partial<AttemptResult> = {}): AttemptResult {
  return {
    ...tokenOf(lease),
    status: 'completed',
    output: { attempt: lease.attempt },
    error: null,
    execution_time_ms: 1,
    lines: [],
    dropped_lines: 0,
    ...over,
  };
}

export function tokenOf({ uid, feed_id, epoch, attempt }: LeaseToken): LeaseToken {
  return { uid, feed_id, epoch, attempt };
}

/** A task that only hand peers run. */
export function hand(over: Parameters<typeof task>[0] = {}): ReturnType<typeof task> {
  return task({ task_type: 'fn:hand', ...over });
}

/** A real peer `a` with hand peers around it, each with its name as a label. */
export async function openWithHands(hands = ['h']): Promise<{ scene: Scene; peers: HandPeer[] }> {
  const scene = await Scene.of(['a']);
  const peers: HandPeer[] = [];
  for (const name of hands) peers.push(await HandPeer.joins(scene, name, ['a'], { labels: [name] }));
  return { scene, peers };
}
