/**
 * The Network port in memory: messages take simulated time, and the switchboard says what goes wrong with them. Unless
 * it does, those of one connection arrive in the order they were sent, or not at all. A request whose message or answer
 * is lost ends with DEADLINE_EXCEEDED, one whose connection breaks with PEER_UNREACHABLE, as on a real network.
 */
import { errorShape, FlowmeshError, type JsonObject, type JsonValue, RemoteError } from '../../dag/errors.ts';
import type { PeerState } from '../../scheduler/messages.ts';
import type { Network, NetworkEvents } from '../../scheduler/ports.ts';
import { FULL_MEMBER, type Membership } from '../../scheduler/roles.ts';
import type { Switchboard } from './switchboard.ts';
import type { World } from './world.ts';

/** The process behind a network: it may be held for a while. */
interface Process {
  readonly isHeld: boolean;
  whenAwake(arrive: () => void): void;
}

const AWAKE: Process = { isHeld: false, whenAwake: (arrive) => arrive() };

/** What one side sends over a connection. */
interface Line {
  /** Of both directions: messages of a closed connection do not arrive. */
  readonly connection: { open: boolean; readonly since: number };
  /** On their way, first sent first. */
  readonly messages: (() => void)[];
  /** When the last of them arrives. */
  lastAt: number;
  /** Requests of this side without an answer. */
  readonly waiting: Set<(error: FlowmeshError) => void>;
}

export class SimulatedNetwork implements Network {
  readonly self: string;
  readonly #board: Switchboard<SimulatedNetwork>;
  readonly #world: World;
  readonly #lines = new Map<string, Line>();
  readonly capabilities = new Set<string>();
  #process: Process = AWAKE;
  #events: NetworkEvents | null = null;
  #describe: ((peer: string) => PeerState) | null = null;
  #alive = true;

  constructor(self: string, board: Switchboard<SimulatedNetwork>) {
    this.self = self;
    this.#board = board;
    this.#world = board.world;
    board.networks.set(self, this);
  }

  attach(events: NetworkEvents, describe: (peer: string) => PeerState, process: Process = AWAKE): void {
    this.#events = events;
    this.#describe = describe;
    this.#process = process;
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
    for (const reject of line.waiting) {
      this.#process.whenAwake(() => reject(unreachable(peer, 'its connection broke')));
    }
    this.#world.at(this.#board.delay(this.self, peer), () =>
      this.#process.whenAwake(() => {
        if (this.#alive && !this.#lines.has(peer)) this.#events?.onDisconnected(peer);
      }),
    );
  }

  addresses(): string[] {
    return [`sim:${this.self}`];
  }

  addressesOf(peer: string): string[] {
    return [`sim:${peer}`];
  }

  connected(): string[] {
    return [...this.#lines.keys()];
  }

  membership(peer: string): Membership | null {
    const said = this.#board.memberships.get(peer);
    return said === undefined ? FULL_MEMBER : said;
  }

  /** In the simulation nobody expires. */
  expelled(peer: string): boolean {
    return this.membership(peer) === null;
  }

  /** Simulated time; Infinity when there is no connection. */
  connectedSince(peer: string): number {
    return this.#lines.get(peer)?.connection.since ?? Number.POSITIVE_INFINITY;
  }

  async request(peer: string, method: string, params: JsonObject, deadlineMs: number): Promise<JsonValue> {
    const sent = copy(params);
    const { promise, resolve, reject } = Promise.withResolvers<JsonValue>();
    const receiver = this.#receiver(peer);
    if (receiver === undefined) throw unreachable(peer, 'it is not connected');
    const waiting = this.#lines.get(peer)?.waiting;
    waiting?.add(reject);
    const expire = this.#world.at(deadlineMs, () =>
      this.#process.whenAwake(() =>
        reject(new FlowmeshError('DEADLINE_EXCEEDED', `${peer} did not answer ${method}`, { retryable: true })),
      ),
    );
    const answer = (settle: () => void) => receiver.#send(this.self, method, settle);
    this.#send(peer, method, () => {
      receiver.#receive(this.self, method, copy(sent)).then(
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
        .#receive(this.self, method, copy(message))
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
        if (this.#alive) this.#process.whenAwake(arrive);
      });
      return;
    }
    const line = this.#lines.get(peer);
    if (line === undefined) return;
    if (this.#board.loses(this.self, peer)) {
      world.note(`lost ${this.self} ~ ${peer} ${what}`);
      return;
    }
    const deliver = this.#delivery(peer, line.connection, arrive);
    if (this.#board.doubles()) world.at(this.#board.delay(this.self, peer) * 2, deliver);
    const delay = this.#board.delay(this.self, peer);
    if (this.#board.overtakes()) {
      world.at(delay, deliver);
      return;
    }
    line.messages.push(deliver);
    line.lastAt = Math.max(line.lastAt, world.now + delay);
    // The first one sent, not the one this event was made for: times that differ by a rounding keep the order too.
    world.at(line.lastAt - world.now, () => line.messages.shift()!());
  }

  /** What happens when a message has come to the other side. */
  #delivery(peer: string, connection: Line['connection'], arrive: () => void): () => void {
    const sentAt = this.#world.now;
    const process = this.#board.networks.get(peer)!.#process;
    return () => {
      if (!connection.open) return;
      process.whenAwake(() => {
        this.#board.arrived(this.self, peer, sentAt);
        arrive();
      });
    };
  }

  async #receive(from: string, method: string, params: unknown): Promise<JsonValue | undefined> {
    if (this.#events === null) throw new FlowmeshError('NOT_READY', 'not attached', { retryable: true });
    this.#world.note(() => `${from} > ${this.self} ${method} ${JSON.stringify(params).slice(0, 300)}`);
    return await this.#events.onMessage(from, method, params);
  }

  /** Gossip takes its own ways: it reaches peers that are not connected to this one. */
  publish(offer: JsonObject): void {
    for (const [peer, network] of this.#board.networks) {
      if (peer === this.self) continue;
      if (this.#board.loses(this.self, peer)) {
        this.#world.note(`lost ${this.self} ~ ${peer} offer`);
        continue;
      }
      const message = copy(offer);
      this.#world.at(this.#board.delay(this.self, peer), () => {
        if (!this.#alive || !network.#alive || this.#board.isCut(this.self, peer)) return;
        network.#process.whenAwake(() => network.#hear(this.self, message));
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
    await this.#pause(this.#board.delay(this.self, peer));
    const other = this.#board.networks.get(peer);
    const answers = other?.isAlive === true && !other.#process.isHeld;
    if (!this.#alive || !answers || this.#board.isClosed(this.self, peer)) {
      throw unreachable(peer, 'it cannot be dialled');
    }
    if (this.#lines.has(peer)) return; // the other side dialled too, and was first
    const connection = { open: true, since: this.#world.now };
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
    const state = copy(other.#describe(this.self));
    this.#receive(peer, 'hello', state).catch((error: unknown) =>
      this.#world.note(`${this.self} did not handle the hello of ${peer}: ${error}`),
    );
    this.#events.onConnected(peer, how);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#world.at(ms, () => this.#process.whenAwake(resolve)));
  }
}

function unreachable(peer: string, why: string): FlowmeshError {
  return new FlowmeshError('PEER_UNREACHABLE', `${peer} cannot be reached: ${why}`, { retryable: true });
}

/** Private to whoever gets it, as after a wire. Messages are plain data. */
function copy<T>(value: T): T {
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(copy) as T;
  const copied: Record<string, unknown> = {};
  for (const [key, inner] of Object.entries(value)) if (inner !== undefined) copied[key] = copy(inner);
  return copied as T;
}
