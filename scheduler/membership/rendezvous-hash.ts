/** An order of peers on which all agree that know the same peers (rendezvous hashing, Thaler and Ravishankar 1998). */
import { createHash } from 'node:crypto';

/** `peers` in the order in which they are responsible for `key`. */
export function rendezvous(key: string, peers: Iterable<string>): string[] {
  return [...peers]
    .map((peer) => ({ peer, weight: createHash('sha256').update(`${key} ${peer}`).digest('hex') }))
    .sort((a, b) => (a.weight < b.weight ? 1 : -1))
    .map(({ peer }) => peer);
}
