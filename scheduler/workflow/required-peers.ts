/**
 * `requires.peers` in a submission: a name that exactly one known peer has becomes that peer's id, for good. What is
 * submitted never waits for a name: whoever takes the name later would get the task.
 */
import type { Requires, Workflow } from '../../dag/schema.ts';
import { AmbiguousPeerNameError, UnknownPeerError } from '../errors.ts';
import type { PeerTable } from '../membership/peer-table.ts';

export type KnownPeers = Pick<PeerTable, 'named' | 'names'>;

/** As `requiresWithIds`, for every step. @throws AmbiguousPeerNameError, UnknownPeerError */
export function withPeerIds<W extends Workflow>(workflow: W, known: KnownPeers): W {
  if (workflow.steps.every(({ requires }) => requires.peers.length === 0)) return workflow;
  const steps = workflow.steps.map((step, position) => {
    return { ...step, requires: requiresWithIds(step.requires, known, `steps[${position}].requires`) };
  });
  return { ...workflow, steps };
}

/**
 * Names become ids. A whole id stays as it is, even of a peer that is not known: no other one can come with it.
 * @param place of `requires` in the submission, for the message
 * @throws AmbiguousPeerNameError for a name that several peers have; UnknownPeerError for one that none has
 */
export function requiresWithIds(requires: Requires, known: KnownPeers, place: string): Requires {
  if (requires.peers.length === 0) return requires;
  const peers = requires.peers.map((text, position) => {
    const meant = known.named(text);
    const at = `${place}.peers[${position}]`;
    if (meant.length > 1) throw new AmbiguousPeerNameError(at, text, meant);
    if (meant[0] === undefined) throw new UnknownPeerError(at, text, known.names());
    return meant[0].peer_id;
  });
  return { ...requires, peers };
}
