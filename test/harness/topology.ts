/** Who may be connected to whom. */

/** Neighbours by index: every pair, each with the next, or all with the first; or as a function says. */
export type Topology = 'full' | 'line' | 'star' | ((a: number, b: number) => boolean);

export function areNeighbours(topology: Topology, a: number, b: number): boolean {
  if (a === b) return false;
  if (typeof topology === 'function') return topology(Math.min(a, b), Math.max(a, b));
  if (topology === 'line') return Math.abs(a - b) === 1;
  if (topology === 'star') return a === 0 || b === 0;
  return true;
}
