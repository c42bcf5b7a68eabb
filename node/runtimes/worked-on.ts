/**
 * Which leases a mesh loop works on, as whoever watches it knows: after a crash these are the ones that may have caused
 * it. The loop itself only tells (`LeaseWatch`).
 */
import type { LeaseToken } from '../../scheduler/messages.ts';
import type { LeaseWatch, WorkedOn } from '../../scheduler/ports.ts';
import { keyOf } from '../../scheduler/worker/attempt-result.ts';

/** Crashes in a short while, from which on everything that was worked on is blamed. */
const BLAME_ALL_FROM = 3;

export class WorkedOnLeases implements LeaseWatch {
  readonly #leases = new Map<string, { lease: WorkedOn; ending: boolean }>();

  began(leases: readonly WorkedOn[]): void {
    for (const lease of leases) this.#leases.set(keyOf(lease), { lease, ending: false });
  }

  ending(leases: readonly WorkedOn[]): void {
    for (const lease of leases) this.#leases.set(keyOf(lease), { lease, ending: true });
  }

  over(leases: readonly LeaseToken[]): void {
    for (const lease of leases) this.#leases.delete(keyOf(lease));
  }

  /**
   * Those that a crash is put down to. Where some were just ending, it is them: what an action gives is the usual cause,
   * and what merely ran beside it is spared. Where the loop goes on to crash all the same, it is all of them.
   *
   * @param recent crashes in a short while, this one included
   */
  blamed(recent: number): WorkedOn[] {
    const all = [...this.#leases.values()];
    const ending = all.filter((each) => each.ending);
    return (ending.length === 0 || recent >= BLAME_ALL_FROM ? all : ending).map(({ lease }) => lease);
  }
}
