/**
 * The Network port in memory: messages take simulated time, get lost with a probability, arrive out of order, and
 * whole links are cut. A request whose message or answer is lost ends with DEADLINE_EXCEEDED, as on a real network.
 */
import { errorShape, FlowmeshError, type JsonObject, type JsonValue, RemoteError } from '../../dag/errors.ts';
import type { PeerState } from '../../scheduler/messages.ts';
import type { Network, NetworkEvents } from '../../scheduler/ports.ts';
import type { World } from './world.ts';

export interface NetworkFaults {
  /** Probability that a message is lost. */
  loss: number;
  /** Delay of a message, uniform between these. */
  delayMs: [number, number];
}

/** All links of a simulated mesh. */
export class Switchboard {
  readonly world: World;
  faults: NetworkFaults;
  readonly networks = new Map<string, SimulatedNetwork>();
  readonly #cut = new Set<string>();

  constructor(world: World, faults: NetworkFaults = { loss: 0, delayMs: [0.1, 1] }) {
    this.world = world;
    this.faults = faults;
  }

  isCut(a: string, b: string): boolean {
    return this.#cut.has(linkOf(a, b));
  }

  cut(a: string, b: string): void {
    this.#cut.add(linkOf(a, b));
    this.networks.get(a)?.drop(b);
    this.networks.get(b)?.drop(a);
  }

  heal(a: string, b: string): void {
    this.#cut.delete(linkOf(a, b));
  }

  delay(): number {
    const [from, to] = this.faults.delayMs;
    return this.world.random.between(from, to);
  }

  loses(): boolean {
    return this.faults.loss > 0 && this.world.random.chance(this.faults.loss);
  }
}

function linkOf(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

export class SimulatedNetwork implements Network {
  readonly self: string;
  readonly #board: Switchboard;
  readonly #peers = new Set<string>();
  readonly capabilities = new Set<string>();
  #events: NetworkEvents | null = null;
  #describe: (() => PeerState) | null = null;
  #alive = true;

  constructor(self: string, board: Switchboard) {
    this.self = self;
    this.#board = board;
    board.networks.set(self, this);
  }

  attach(events: NetworkEvents, describe: () => PeerState): void {
    this.#events = events;
    this.#describe = describe;
  }

  /** The process is gone: the others' connections break. */
  kill(): void {
    this.#alive = false;
    for (const peer of [...this.#peers]) this.#board.networks.get(peer)?.drop(this.self);
    this.#peers.clear();
  }

  /** Loses the connection to a peer; the scheduler hears of it once the redial has failed. */
  drop(peer: string): void {
    if (!this.#peers.delete(peer)) return;
    this.#board.world.at(this.#board.delay(), () => {
      if (this.#alive && !this.#peers.has(peer)) this.#events?.onDisconnected(peer);
    });
  }

  addresses(): string[] {
    return [`sim:${this.self}`];
  }

  connected(): string[] {
    return [...this.#peers];
  }

  async request(peer: string, method: string, params: JsonObject, deadlineMs: number): Promise<JsonValue> {
    const target = peer === this.self ? this : this.#board.networks.get(peer);
    if (peer !== this.self && !this.#peers.has(peer)) {
      throw new FlowmeshError('PEER_UNREACHABLE', `${peer} is not connected`, { retryable: true });
    }
    return await new Promise<JsonValue>((resolve, reject) => {
      const expire = this.#board.world.at(deadlineMs, () =>
        reject(new FlowmeshError('DEADLINE_EXCEEDED', `${peer} did not answer ${method}`, { retryable: true })),
      );
      const answer = (settle: () => void) =>
        this.#carry(target, peer, method, () => {
          expire();
          settle();
        });
      this.#carry(this, peer, method, () => {
        target!.receive(this.self, method, copy(params)).then(
          (value) => answer(() => resolve(copy(value ?? null))),
          (error: unknown) => answer(() => reject(new RemoteError(copy(errorShape(error) as never)))),
        );
      });
    });
  }

  notify(peer: string, method: string, params: JsonObject): void {
    const target = peer === this.self ? this : this.#board.networks.get(peer);
    if (peer !== this.self && !this.#peers.has(peer)) return;
    const message = copy(params);
    this.#carry(this, peer, method, () => void target?.receive(this.self, method, message).catch(() => {}));
  }

  /** Takes one message over the link between this network and `peer`, or loses it. */
  #carry(from: SimulatedNetwork | undefined, peer: string, what: string, arrive: () => void): void {
    const { world } = this.#board;
    const local = peer === this.self;
    if (!local && this.#board.loses()) {
      world.note(`lost ${this.self} ~ ${peer} ${what}`);
      return;
    }
    world.at(local ? 0 : this.#board.delay(), () => {
      const there = local || this.#board.networks.get(peer)?.isAlive === true;
      if (!this.#alive || !there || from?.isAlive !== true) return;
      if (!local && this.#board.isCut(this.self, peer)) return;
      arrive();
    });
  }

  get isAlive(): boolean {
    return this.#alive;
  }

  async receive(from: string, method: string, params: unknown): Promise<JsonValue | undefined> {
    if (this.#events === null) throw new FlowmeshError('NOT_READY', 'not attached', { retryable: true });
    this.#board.world.note(
      `${from} > ${this.self} ${method} ${this.#board.world.trace ? JSON.stringify(params).slice(0, 300) : ''}`,
    );
    return await this.#events.onMessage(from, method, params);
  }

  publish(offer: JsonObject): void {
    const message = copy(offer);
    for (const [peer, network] of this.#board.networks) {
      if (peer === this.self) continue;
      this.#carry(this, peer, 'offer', () => network.hear(this.self, message));
    }
  }

  hear(from: string, offer: unknown): void {
    this.#events?.onOffer(from, offer);
  }

  provide(capabilities: string[]): void {
    this.capabilities.clear();
    for (const capability of capabilities) this.capabilities.add(capability);
  }

  async findProviders(capability: string, limit: number): Promise<string[]> {
    await new Promise<void>((resolve) => this.#board.world.at(this.#board.delay() * 10, resolve));
    const found: string[] = [];
    for (const [peer, network] of this.#board.networks) {
      if (peer !== this.self && network.isAlive && network.capabilities.has(capability)) found.push(peer);
    }
    return found.slice(0, limit);
  }

  async connect(peer: string): Promise<void> {
    if (this.#peers.has(peer)) return;
    await new Promise<void>((resolve) => this.#board.world.at(this.#board.delay(), resolve));
    const other = this.#board.networks.get(peer);
    if (!this.#alive || other?.isAlive !== true || this.#board.isCut(this.self, peer)) {
      throw new FlowmeshError('PEER_UNREACHABLE', `${peer} cannot be dialled`, { retryable: true });
    }
    if (this.#peers.has(peer)) return;
    this.#peers.add(peer);
    other.#peers.add(this.self);
    await this.#greet(peer, other, 'outbound');
    await other.#greet(this.self, this, 'inbound');
  }

  async #greet(peer: string, other: SimulatedNetwork, how: 'inbound' | 'outbound'): Promise<void> {
    if (this.#events === null || other.#describe === null) return;
    await this.#events.onMessage(peer, 'hello', copy(other.#describe() as unknown as JsonValue));
    this.#events.onConnected(peer, how);
  }
}

function copy<T>(value: T): T {
  return structuredClone(value);
}
