/**
 * The Network port in memory: messages take simulated time, get lost with a probability, and whole links are cut.
 * Those of one connection arrive in the order they were sent, or not at all. A request whose message or answer is
 * lost ends with DEADLINE_EXCEEDED, one whose connection breaks with PEER_UNREACHABLE, as on a real network.
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

/** What one side sends over a connection. */
interface Line {
  /** Of both directions: messages of a closed connection do not arrive. */
  readonly connection: { open: boolean };
  /** On their way, first sent first. */
  readonly messages: (() => void)[];
  /** When the last of them arrives. */
  lastAt: number;
  /** Requests of this side without an answer. */
  readonly waiting: Set<(error: FlowmeshError) => void>;
}

export class SimulatedNetwork implements Network {
  readonly self: string;
  readonly #board: Switchboard;
  readonly #world: World;
  readonly #lines = new Map<string, Line>();
  readonly capabilities = new Set<string>();
  #events: NetworkEvents | null = null;
  #describe: (() => PeerState) | null = null;
  #alive = true;

  constructor(self: string, board: Switchboard) {
    this.self = self;
    this.#board = board;
    this.#world = board.world;
    board.networks.set(self, this);
  }

  attach(events: NetworkEvents, describe: () => PeerState): void {
    this.#events = events;
    this.#describe = describe;
  }

  get isAlive(): boolean {
    return this.#alive;
  }

  /** The process is gone: the others' connections break. */
  kill(): void {
    this.#alive = false;
    for (const [peer, { connection }] of this.#lines) {
      connection.open = false;
      this.#board.networks.get(peer)?.drop(this.self);
    }
    this.#lines.clear();
  }

  /** Loses the connection to a peer; the scheduler hears of it once the redial has failed. */
  drop(peer: string): void {
    const line = this.#lines.get(peer);
    if (line === undefined) return;
    this.#lines.delete(peer);
    line.connection.open = false;
    for (const reject of line.waiting) reject(unreachable(peer, 'its connection broke'));
    this.#world.at(this.#board.delay(), () => {
      if (this.#alive && !this.#lines.has(peer)) this.#events?.onDisconnected(peer);
    });
  }

  addresses(): string[] {
    return [`sim:${this.self}`];
  }

  connected(): string[] {
    return [...this.#lines.keys()];
  }

  async request(peer: string, method: string, params: JsonObject, deadlineMs: number): Promise<JsonValue> {
    const sent = copy(params);
    const { promise, resolve, reject } = Promise.withResolvers<JsonValue>();
    const receiver = this.#receiver(peer);
    if (receiver === undefined) throw unreachable(peer, 'it is not connected');
    const waiting = this.#lines.get(peer)?.waiting;
    waiting?.add(reject);
    const expire = this.#world.at(deadlineMs, () =>
      reject(new FlowmeshError('DEADLINE_EXCEEDED', `${peer} did not answer ${method}`, { retryable: true })),
    );
    const answer = (settle: () => void) => receiver.#send(this.self, method, settle);
    this.#send(peer, method, () => {
      receiver.#receive(this.self, method, sent).then(
        (value) => {
          const back = copy(value ?? null);
          answer(() => resolve(back));
        },
        (error: unknown) => answer(() => reject(new RemoteError(errorShape(error)))),
      );
    });
    try {
      return await promise;
    } finally {
      expire();
      waiting?.delete(reject);
    }
  }

  notify(peer: string, method: string, params: JsonObject): void {
    const message = copy(params);
    const receiver = this.#receiver(peer);
    if (receiver === undefined) return;
    this.#send(peer, method, () => {
      // Nobody waits for what becomes of a notification.
      receiver
        .#receive(this.self, method, message)
        .catch((error: unknown) => this.#world.note(`${peer} did not handle ${method}: ${error}`));
    });
  }

  /** The other end of an open connection, or this network itself. */
  #receiver(peer: string): SimulatedNetwork | undefined {
    if (peer === this.self) return this;
    return this.#lines.has(peer) ? this.#board.networks.get(peer) : undefined;
  }

  /** Takes one message to a connected peer, or loses it. */
  #send(peer: string, what: string, arrive: () => void): void {
    const world = this.#world;
    if (peer === this.self) {
      world.at(0, () => {
        if (this.#alive) arrive();
      });
      return;
    }
    const line = this.#lines.get(peer);
    if (line === undefined) return;
    if (this.#board.loses()) {
      world.note(`lost ${this.self} ~ ${peer} ${what}`);
      return;
    }
    line.messages.push(arrive);
    line.lastAt = Math.max(line.lastAt, world.now + this.#board.delay());
    world.at(line.lastAt - world.now, () => {
      // The first one sent, not the one this event was made for: times that differ by a rounding keep the order too.
      const first = line.messages.shift()!;
      if (line.connection.open) first();
    });
  }

  async #receive(from: string, method: string, params: unknown): Promise<JsonValue | undefined> {
    if (this.#events === null) throw new FlowmeshError('NOT_READY', 'not attached', { retryable: true });
    const shown = this.#world.trace === null ? '' : JSON.stringify(params).slice(0, 300);
    this.#world.note(`${from} > ${this.self} ${method} ${shown}`);
    return await this.#events.onMessage(from, method, params);
  }

  /** Gossip takes its own ways: it reaches peers that are not connected to this one. */
  publish(offer: JsonObject): void {
    for (const [peer, network] of this.#board.networks) {
      if (peer === this.self) continue;
      if (this.#board.loses()) {
        this.#world.note(`lost ${this.self} ~ ${peer} offer`);
        continue;
      }
      const message = copy(offer);
      this.#world.at(this.#board.delay(), () => {
        if (this.#alive && network.#alive && !this.#board.isCut(this.self, peer)) network.#hear(this.self, message);
      });
    }
  }

  #hear(from: string, offer: unknown): void {
    this.#events?.onOffer(from, offer);
  }

  provide(capabilities: string[]): void {
    this.capabilities.clear();
    for (const capability of capabilities) this.capabilities.add(capability);
  }

  async findProviders(capability: string, limit: number): Promise<string[]> {
    await this.#pause(this.#board.delay() * 10);
    const found: string[] = [];
    for (const [peer, network] of this.#board.networks) {
      if (peer !== this.self && network.#alive && network.capabilities.has(capability)) found.push(peer);
    }
    return found.slice(0, limit);
  }

  async connect(peer: string): Promise<void> {
    if (peer === this.self || this.#lines.has(peer)) return;
    await this.#pause(this.#board.delay());
    const other = this.#board.networks.get(peer);
    if (!this.#alive || other?.isAlive !== true || this.#board.isCut(this.self, peer)) {
      throw unreachable(peer, 'it cannot be dialled');
    }
    if (this.#lines.has(peer)) return; // the other side dialled too, and was first
    const connection = { open: true };
    for (const [network, to] of [
      [this, peer],
      [other, this.self],
    ] as const) {
      network.#lines.set(to, { connection, messages: [], lastAt: 0, waiting: new Set() });
    }
    this.#greet(peer, other, 'outbound');
    other.#greet(this.self, this, 'inbound');
  }

  #greet(peer: string, other: SimulatedNetwork, how: 'inbound' | 'outbound'): void {
    if (this.#events === null || other.#describe === null) return;
    const state = copy(other.#describe());
    this.#receive(peer, 'hello', state).catch((error: unknown) =>
      this.#world.note(`${this.self} did not handle the hello of ${peer}: ${error}`),
    );
    this.#events.onConnected(peer, how);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#world.at(ms, resolve));
  }
}

function unreachable(peer: string, why: string): FlowmeshError {
  return new FlowmeshError('PEER_UNREACHABLE', `${peer} cannot be reached: ${why}`, { retryable: true });
}

function copy<T>(value: T): T {
  return structuredClone(value);
}
