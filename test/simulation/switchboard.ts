/** All links of a simulated mesh, and what is wrong with them. */
import type { Membership } from '../../scheduler/roles.ts';
import type { World } from './world.ts';

export interface NetworkFaults {
  /** Probability that a message is lost. */
  loss: number;
  /** Delay of a message, uniform between these. */
  delayMs: [number, number];
  /** Probability that a message arrives twice, the second time later. Default 0. */
  duplication?: number;
  /** Probability that a message leaves the order of its connection, so that later ones overtake it. Default 0. */
  reordering?: number;
}

/** The end of links at one peer. */
export interface LinkEnd {
  /** Loses the connection to a peer. */
  drop(peer: string): void;
}

/** `End` is what the networks of this mesh are. */
export class Switchboard<End extends LinkEnd = LinkEnd> {
  readonly world: World;
  faults: NetworkFaults;
  readonly networks = new Map<string, End>();
  /** What the certificate of a peer says; null for one that is no member any more. A full member when absent. */
  readonly memberships = new Map<string, Membership | null>();
  readonly #cut = new Set<string>();
  /** One direction each: connections stay open, and what is sent vanishes. */
  readonly #muted = new Set<string>();
  readonly #slow = new Map<string, number>();
  /** By direction, when the last message that has arrived was sent. */
  readonly #heard = new Map<string, number>();

  constructor(world: World, faults: NetworkFaults = { loss: 0, delayMs: [0.1, 1] }) {
    this.world = world;
    this.faults = faults;
  }

  isCut(a: string, b: string): boolean {
    return this.#cut.has(linkOf(a, b));
  }

  /** No connection can be opened: it is cut, or mute in one direction. */
  isClosed(a: string, b: string): boolean {
    return this.isCut(a, b) || this.#muted.has(`${a} ${b}`) || this.#muted.has(`${b} ${a}`);
  }

  cut(a: string, b: string): void {
    this.#cut.add(linkOf(a, b));
    this.networks.get(a)?.drop(b);
    this.networks.get(b)?.drop(a);
  }

  heal(a: string, b: string): void {
    this.#cut.delete(linkOf(a, b));
  }

  mute(from: string, to: string): void {
    this.#muted.add(`${from} ${to}`);
  }

  unmute(from: string, to: string): void {
    this.#muted.delete(`${from} ${to}`);
  }

  /** Every message from and to a peer takes this much longer; 0 for no longer. */
  slow(peer: string, ms: number): void {
    this.#slow.set(peer, ms);
  }

  /** Everything works from now on. */
  healAll(): void {
    this.#cut.clear();
    this.#muted.clear();
    this.#slow.clear();
    this.faults = { loss: 0, delayMs: [0.1, 1] };
  }

  /** How long a message takes. */
  delay(from?: string, to?: string): number {
    const [least, most] = this.faults.delayMs;
    const slowness = (peer: string | undefined) => (peer === undefined ? 0 : (this.#slow.get(peer) ?? 0));
    return this.world.random.between(least, most) + slowness(from) + slowness(to);
  }

  loses(from: string, to: string): boolean {
    if (this.#muted.has(`${from} ${to}`)) return true;
    return this.faults.loss > 0 && this.world.random.chance(this.faults.loss);
  }

  doubles(): boolean {
    const { duplication = 0 } = this.faults;
    return duplication > 0 && this.world.random.chance(duplication);
  }

  overtakes(): boolean {
    const { reordering = 0 } = this.faults;
    return reordering > 0 && this.world.random.chance(reordering);
  }

  arrived(from: string, to: string, sentAt: number): void {
    this.#heard.set(`${from} ${to}`, Math.max(sentAt, this.heardAt(from, to)));
  }

  /** When the latest of the messages that have arrived was sent. */
  heardAt(from: string, to: string): number {
    return this.#heard.get(`${from} ${to}`) ?? Number.NEGATIVE_INFINITY;
  }
}

function linkOf(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}
