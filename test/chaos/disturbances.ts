/** One disturbance of a random peer after the other: it is killed, stands still, or loses its cables for a while. */
import { setTimeout as delay } from 'node:timers/promises';
import { around, between, type Cables, type CutKind } from '../harness/cables.ts';
import type { PeerProcess, ProcessMesh } from '../harness/processes.ts';
import type { SeededRandom } from '../simulation/world.ts';

export const FAULTS = ['kill', 'pause', 'cut', 'isolate'] as const;
export type Fault = (typeof FAULTS)[number];

/** How long each lasts, in ms. */
const LASTS: Record<Fault, { from: number; to: number }> = {
  kill: { from: 500, to: 8_000 },
  // Longer than a lease and a takeover.
  pause: { from: 6_000, to: 10_000 },
  cut: { from: 3_000, to: 12_000 },
  isolate: { from: 3_000, to: 12_000 },
};
const CUT_KINDS: readonly CutKind[] = ['closed', 'silent'];

export interface Disturbance {
  fault: Fault;
  /** By index, the other side of a cut last. */
  peers: number[];
  /** The process at its begin. */
  pid: number;
  /** Of the cables. */
  how?: CutKind;
  /** Unix ms. */
  at: number;
  healed_at?: number;
}

export class Disturber {
  readonly done: Disturbance[] = [];
  readonly #mesh: ProcessMesh;
  readonly #cables: Cables;
  readonly #random: SeededRandom;
  readonly #faults: readonly Fault[];
  readonly #disturbed = new Set<PeerProcess>();
  #toCome: Fault[] = [];

  constructor(mesh: ProcessMesh, cables: Cables, random: SeededRandom, faults: readonly Fault[] = FAULTS) {
    this.#mesh = mesh;
    this.#cables = cables;
    this.#random = random;
    this.#faults = faults;
  }

  /**
   * Begins one disturbance every so many ms, and resolves when all are healed. Each fault comes once before any comes
   * again. At most half of the peers are disturbed at a time: one that is too many waits until others are healed.
   *
   * @throws when a peer does not start again
   */
  async run(everyMs: number, count: number): Promise<void> {
    const all: Promise<void>[] = [];
    const running = new Set<Promise<void>>();
    const failed = new AbortController();
    while (all.length < count && !failed.signal.aborted) {
      await delay(everyMs);
      const fault = this.#nextFault();
      while (!this.#hasRoom(fault)) await Promise.race(running);
      const one = this.#disturb(fault);
      all.push(one);
      const over = one.catch((error) => failed.abort(error)).finally(() => running.delete(over));
      running.add(over);
    }
    await Promise.all(all);
  }

  #nextFault(): Fault {
    if (this.#toCome.length === 0) this.#toCome = this.#random.shuffled(this.#faults);
    return this.#toCome.pop()!;
  }

  /** The first one always has. */
  #hasRoom(fault: Fault): boolean {
    const disturbed = this.#disturbed.size + (fault === 'cut' ? 2 : 1);
    return this.#disturbed.size === 0 || 2 * disturbed <= this.#mesh.peers.length;
  }

  async #disturb(fault: Fault): Promise<void> {
    const calm = this.#mesh.peers.filter((peer) => !this.#disturbed.has(peer));
    const peer = this.#random.pick(calm);
    const other = this.#random.pick(calm.filter((each) => each !== peer));
    const peers = fault === 'cut' ? [peer, other] : [peer];
    const how = this.#random.pick(CUT_KINDS);
    const { from, to } = LASTS[fault];
    const ms = this.#random.between(from, to);
    const disturbance: Disturbance = {
      fault,
      peers: peers.map(({ index }) => index),
      pid: peer.pid,
      ...((fault === 'cut' || fault === 'isolate') && { how }),
      at: Date.now(),
    };
    this.done.push(disturbance);
    for (const each of peers) this.#disturbed.add(each);
    const heal = await this.#begin(fault, peer, other, how);
    await delay(ms);
    await heal();
    disturbance.healed_at = Date.now();
    for (const each of peers) this.#disturbed.delete(each);
  }

  /** @returns what heals it */
  async #begin(fault: Fault, peer: PeerProcess, other: PeerProcess, how: CutKind): Promise<() => void | Promise<void>> {
    switch (fault) {
      case 'kill':
        await peer.kill('SIGKILL');
        return () => peer.start();
      case 'pause':
        peer.pause();
        return () => peer.resume();
      case 'cut':
        return this.#cables.cut(between(peer.index, other.index), how);
      case 'isolate':
        return this.#cables.cut(around(peer.index), how);
    }
  }
}
