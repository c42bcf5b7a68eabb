/** What goes wrong in a simulated mesh. */
import type { FeedRecord } from '../../scheduler/records.ts';
import { currentLine } from '../../scheduler/storage/feed-lines.ts';
import { FAVOUR, type FaultKind, type FaultPlan } from './fault-plan.ts';
import type { SimulatedMesh } from './mesh.ts';
import type { Oracle } from './oracle.ts';
import type { DiskImage } from './simulated-disk.ts';
import type { SeededRandom } from './world.ts';

/** How often each kind struck. */
export type FaultCounts = Partial<Record<FaultKind, number>>;

/** Others take over in the first half of it. */
const PARTITION_MS = [6_000, 10_000] as const;
/** It begins before, so that there are submits while it heals. */
const PARTITION_BY_MS = 3_000;
/** The links of a partition do not heal at one moment. */
const HEALING_MS = 2_000;

export class Faults {
  readonly #mesh: SimulatedMesh;
  readonly #oracle: Oracle;
  readonly #plan: FaultPlan;
  readonly #random: SeededRandom;
  readonly counts: FaultCounts = {};
  #joined = 0;
  readonly #gone = new Set<string>();
  readonly #stopping = new Set<string>();
  #healed = false;
  #isParted = false;

  constructor(mesh: SimulatedMesh, oracle: Oracle, plan: FaultPlan) {
    this.#mesh = mesh;
    this.#oracle = oracle;
    this.#plan = plan;
    this.#random = mesh.world.random;
  }

  /** @param endMs simulated: nothing strikes after this */
  schedule(endMs: number): void {
    const { world, board } = this.#mesh;
    const has = (kind: FaultKind) => this.#plan.kinds.has(kind);
    board.faults = {
      loss: has('loss') ? this.#random.pick([0.01, 0.03, 0.05]) : 0,
      delayMs: [0.1, has('delay') ? this.#random.pick([20, 300]) : 1],
      duplication: has('duplication') ? 0.05 : 0,
      reordering: has('reordering') ? 0.2 : 0,
    };
    for (const [kind, most, strike, until = endMs] of this.#strikes()) {
      if (!has(kind)) continue;
      const factor = this.#plan.favoured.has(kind) ? FAVOUR : 1;
      for (let count = (1 + this.#random.below(most)) * factor; count > 0; count--) {
        world.at(this.#random.between(100, until), () => {
          if (this.#healed) return;
          strike();
        });
      }
    }
  }

  /** Kinds that strike at moments, how often at most in a run, and until when. */
  #strikes(): [FaultKind, number, () => void, number?][] {
    return [
      ['crash', 4, () => this.#crash()],
      ['stop', 2, () => this.#stop()],
      ['hold', 3, () => this.#hold()],
      ['cut', 4, () => this.#cut()],
      ['partition', 1, () => this.#part(), PARTITION_BY_MS],
      ['mute', 3, () => this.#mute()],
      ['full disk', 2, () => this.#fillDisk()],
      ['failed fsync', 3, () => this.#failFsync()],
      ['slow peer', 2, () => this.#slowDown()],
      ['join', 1, () => this.#join([])],
      ['leave', 1, () => this.#leave()],
      ['lost disk', 2, () => this.#whenBearable('lost disk', (name) => this.#loseDisk(name))],
      ['old disk', 2, () => this.#bringBackOldDisk()],
    ];
  }

  /** Everything works again: links, disks, and every peer that is down comes back. */
  heal(): void {
    this.#healed = true;
    this.#mesh.world.note('heal');
    this.#mesh.board.healAll();
    this.#endLies();
    for (const { peer_id, alive, disk } of [...this.#mesh.peers.values()]) {
      disk.heal();
      if (!alive) void this.#mesh.restart(peer_id);
    }
  }

  /** The liars are found out. Whoever waits for one of them to say whose a feed is hears that it will not come back. */
  #endLies(): void {
    const { peers, liars } = this.#mesh;
    if (liars.size === 0) return;
    const gone = new Set(liars.keys());
    this.#mesh.revokeLiars();
    for (const { peer_id, alive, disk, scheduler } of [...peers.values()]) {
      const waits = feedsOn(disk.rows, peer_id).some(
        ({ feed_id, followers }) =>
          !scheduler.parts.feeds.has(feed_id) && followers.some((follower) => gone.has(follower.peer_id)),
      );
      if (alive && waits) this.#mesh.kill(peer_id); // restarted with the others that are down
    }
  }

  #count(kind: FaultKind, what: string): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    this.#mesh.world.note(`FAULT ${kind}: ${what}`);
  }

  #alive(): string[] {
    return [...this.#mesh.peers.values()].filter(({ alive }) => alive).map(({ peer_id }) => peer_id);
  }

  /** A peer that runs, for a fault that strikes one. */
  #victim(names = this.#alive()): string | undefined {
    return names.length === 0 ? undefined : this.#random.pick(names);
  }

  /** One for a fault after which it reads its disk anew. */
  #restartable(): string | undefined {
    return this.#victim(this.#alive().filter((name) => !this.#counts(name, this.#gone)));
  }

  /**
   * Whether an owner counts on one of these peers to hear, after a restart, whose its feed is: while it has no answer
   * it only reads it, for ever if all that could answer are gone.
   */
  #counts(owner: string, on: ReadonlySet<string>, disk = this.#mesh.peers.get(owner)!.disk.rows): boolean {
    return feedsOn(disk, owner).some((feed) => feed.followers.some(({ peer_id }) => on.has(peer_id)));
  }

  /**
   * Whether followers that a backup names have more than it. Where none has, its peer cannot tell that it is one, and what
   * may start once can start again (docs/guarantees.md, "An old backup of a peer whose followers stood still, too").
   */
  #isKnownAsOld(name: string, image: DiskImage): boolean {
    const headAt = (peer: string, feedId: string) =>
      this.#mesh.peers.get(peer)?.disk.image().heads.get(feedId)?.seq ?? 0;
    return feedsOn(image.rows, name).every(({ feed_id, followers }) => {
      const head = image.heads.get(feed_id)!.seq;
      if (headAt(name, feed_id) === head) return true; // nothing was written since
      return followers.some(({ peer_id, synced }) => synced && headAt(peer_id, feed_id) > head);
    });
  }

  #isAskedByNobody(name: string): boolean {
    const ofIt = new Set([name]);
    for (const { peer_id, alive, scheduler, disk } of this.#mesh.peers.values()) {
      const isSteady = alive && disk.isSound && !this.#stopping.has(peer_id);
      const owns = ({ feed_id }: FeedRecord) => scheduler.parts.feeds.has(feed_id);
      const asks = !isSteady || !feedsOn(disk.rows, peer_id).every(owns);
      if (asks && this.#counts(peer_id, ofIt)) return false;
    }
    return true;
  }

  #mayLose(name: string): boolean {
    return this.#isAskedByNobody(name) && this.#oracle.mayLose(name);
  }

  #forget(name: string): void {
    this.#gone.add(name);
    this.#oracle.lost(name);
    this.#mesh.forget(name);
  }

  #later(fromMs: number, toMs: number, then: () => void): void {
    this.#mesh.world.at(this.#random.between(fromMs, toMs), then);
  }

  /** Long enough for another peer to take over, or not; at once when all has healed. */
  #comesBackLater(name: string): void {
    if (this.#healed) {
      void this.#mesh.restart(name);
      return;
    }
    const [from, to] = this.#random.pick([
      [10, 1_000],
      [1_000, 12_000],
    ]) as [number, number];
    this.#later(from, to, () => void this.#mesh.restart(name));
  }

  #crash(): void {
    const name = this.#restartable();
    if (name === undefined) return;
    this.#count('crash', name);
    this.#mesh.kill(name);
    this.#comesBackLater(name);
  }

  #stop(): void {
    const name = this.#restartable();
    if (name === undefined) return;
    this.#count('stop', name);
    this.#afterStop(name, () => {
      this.#mesh.kill(name);
      this.#comesBackLater(name);
    });
  }

  /** Runs once a peer has stopped in peace, unless it has crashed meanwhile. */
  #afterStop(name: string, then: () => void): void {
    const peer = this.#mesh.peers.get(name)!;
    this.#stopping.add(name);
    peer.clock.whenAwake(() => {
      void peer.scheduler.stop().then(() => {
        this.#stopping.delete(name);
        if (this.#mesh.peers.get(name) === peer && peer.alive) then();
      });
    });
  }

  #hold(): void {
    const name = this.#victim();
    if (name === undefined) return;
    this.#count('hold', name);
    const heldMs = this.#random.between(100, 12_000);
    this.#oracle.held(name, heldMs);
    this.#mesh.peers.get(name)!.clock.sleep(heldMs, this.#random.chance(0.5));
  }

  #pair(): [string, string] | undefined {
    const [a, b] = [this.#victim(), this.#victim()];
    return a === undefined || b === undefined || a === b ? undefined : [a, b];
  }

  #cut(): void {
    const pair = this.#pair();
    if (pair === undefined) return;
    const { board } = this.#mesh;
    // One link, or all links of a peer.
    const alone = this.#random.chance(0.4);
    const others = alone ? this.#alive().filter((name) => name !== pair[0]) : [pair[1]];
    this.#count('cut', `${pair[0]} from ${others}`);
    for (const other of others) board.cut(pair[0], other);
    this.#later(50, 12_000, () => {
      for (const other of others) board.heal(pair[0], other);
    });
  }

  /** Some peers are away from the others, for so long that those take over and go on: both sides write. */
  #part(): void {
    const names = this.#alive();
    if (this.#isParted || names.length < 3) return;
    this.#isParted = true;
    const first = this.#random.below(names.length);
    const fewMost = Math.floor((names.length - 1) / 2);
    const few = [...names, ...names].slice(first, first + 1 + this.#random.below(fewMost));
    const others = names.filter((name) => !few.includes(name));
    this.#count('partition', `${few} from ${others}`);
    const { board } = this.#mesh;
    const links = few.flatMap((one) => others.map((other) => [one, other] as const));
    for (const link of links) board.cut(...link);
    this.#later(...PARTITION_MS, () => {
      this.#isParted = false;
      for (const link of links) this.#later(0, HEALING_MS, () => board.heal(...link));
    });
  }

  #mute(): void {
    const pair = this.#pair();
    if (pair === undefined) return;
    this.#count('mute', `${pair[0]} to ${pair[1]}`);
    this.#mesh.board.mute(...pair);
    this.#later(50, 12_000, () => this.#mesh.board.unmute(...pair));
  }

  #fillDisk(): void {
    const name = this.#restartable();
    if (name === undefined) return;
    this.#count('full disk', name);
    const { disk } = this.#mesh.peers.get(name)!;
    disk.fillUp();
    this.#later(100, 6_000, () => disk.heal());
  }

  #failFsync(): void {
    const name = this.#restartable();
    if (name === undefined) return;
    const how = this.#random.pick(['full', 'lost', 'landed'] as const);
    this.#count('failed fsync', `${how} at ${name}`);
    this.#mesh.peers.get(name)!.disk.failNext(how);
  }

  #slowDown(): void {
    const name = this.#victim();
    if (name === undefined) return;
    this.#count('slow peer', name);
    const { disk } = this.#mesh.peers.get(name)!;
    disk.delayMs = [20, this.#random.pick([100, 600])];
    this.#mesh.board.slow(name, this.#random.pick([0, 30, 150]));
    this.#later(1_000, 12_000, () => {
      disk.heal();
      this.#mesh.board.slow(name, 0);
    });
  }

  #join(labels: readonly string[]): void {
    const name = `late-${++this.#joined}`;
    this.#count('join', name);
    void this.#mesh.join(name, { slots: 1 + this.#random.below(4), labels });
  }

  /** For good, when nothing that was answered is on its disk alone; else it is back at the latest when all heals. */
  #leave(): void {
    const name = this.#restartable();
    if (name === undefined || this.#mesh.labelsOf(name).length > 0) return;
    this.#count('leave', name);
    this.#afterStop(name, () => {
      if (this.#mayLose(name)) this.#forget(name);
      else {
        this.#mesh.kill(name);
        if (this.#healed) this.#comesBackLater(name);
      }
    });
  }

  /** Waits for a moment at which no answer is lost with a peer's disk. */
  #whenBearable(kind: FaultKind, strike: (name: string) => void, name = this.#victim(), triesLeft = 40): void {
    if (name === undefined || triesLeft === 0 || this.#healed) return;
    if (this.#mesh.peers.get(name)?.alive === true && this.#mayLose(name)) {
      this.#count(kind, name);
      strike(name);
    } else this.#later(50, 200, () => this.#whenBearable(kind, strike, name, triesLeft - 1));
  }

  /** The machine is gone with its disk; a new one takes its place, as another peer. */
  #loseDisk(name: string): void {
    const labels = this.#mesh.labelsOf(name);
    this.#forget(name);
    this.#later(10, 4_000, () => this.#join(labels));
  }

  /** A peer comes back on a backup of its disk. */
  #bringBackOldDisk(): void {
    const name = this.#victim();
    if (name === undefined) return;
    const image = this.#mesh.peers.get(name)!.disk.image();
    this.#later(500, 6_000, () => {
      const isWorn = () => this.#counts(name, this.#gone) || this.#counts(name, this.#gone, image.rows);
      const restore = () => {
        if (isWorn() || !this.#isKnownAsOld(name, image)) return;
        this.#mesh.kill(name);
        this.#oracle.lost(name);
        this.#mesh.peers.get(name)!.disk.restore(image);
        this.#comesBackLater(name);
      };
      this.#whenBearable('old disk', restore, name);
    });
  }
}

/** The feeds that a peer owns, by a disk. */
function feedsOn(rows: DiskImage['rows'], owner: string): FeedRecord[] {
  const found: FeedRecord[] = [];
  for (const { record } of rows.values()) {
    if (record.kind === 'feed' && currentLine(record).owner === owner) found.push(record);
  }
  return found;
}
