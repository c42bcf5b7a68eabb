/** What clients are told of the copies of a record (P1). */
import type { Durability } from '../api.ts';

/**
 * A peer that is alone can keep one copy, which is enough unless the submit asked for another number than the default.
 *
 * @param wanted disks that the record is to be on
 * @param mesh `byDefault`: the number wanted when a submit does not say; `alone`: no other peer could keep a copy
 */
export function durabilityNow(copies: number, wanted: number, mesh: { byDefault: number; alone: boolean }): Durability {
  return { copies, wanted: mesh.alone && wanted === mesh.byDefault ? 1 : wanted };
}
