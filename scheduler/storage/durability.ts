/** What is said of the copies of a record (P1). */
import type { Durability } from '../api.ts';

/**
 * A mesh of one peer can keep one copy, and by default nobody asks it for more.
 *
 * @param wanted disks that the record wants to be on
 * @param mesh `byDefault`: what it wants when its submit did not say; `alone`: no other peer could keep a copy
 */
export function durabilityNow(copies: number, wanted: number, mesh: { byDefault: number; alone: boolean }): Durability {
  return { copies, wanted: mesh.alone && wanted === mesh.byDefault ? 1 : wanted };
}
