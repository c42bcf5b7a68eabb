/** A disk that keeps commits waiting while a test holds it, for what may and may not happen before an fsync (P1). */
import type { Row } from '../../scheduler/records.ts';
import { MemoryStore } from '../simulation/memory-store.ts';
import { type Gate, gate } from './scene.ts';

export class HeldDisk extends MemoryStore {
  /** The commits that came to the disk, in order, written or waiting. */
  readonly commits: Row[][];
  readonly #hold: { gate: Gate | null };

  constructor() {
    const commits: Row[][] = [];
    const hold: { gate: Gate | null } = { gate: null };
    super({
      sync: async (operation) => {
        if (operation.type !== 'commit') return;
        commits.push(operation.rows);
        await hold.gate?.opened;
      },
    });
    this.commits = commits;
    this.#hold = hold;
  }

  /** Commits from now on wait, one behind the other. */
  hold(): void {
    this.#hold.gate = gate();
  }

  /** Lets the commits go on. */
  release(): void {
    this.#hold.gate?.open();
    this.#hold.gate = null;
  }

  /** Lets the commit that waits be written; the next one waits again. */
  step(): void {
    const waiting = this.#hold.gate;
    this.hold();
    waiting?.open();
  }
}
