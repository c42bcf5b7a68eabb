/** `requires.peers` in a submission: a name that exactly one peer has becomes that peer's id, for good. */
import type { Requires, Workflow } from '../../dag/schema.ts';
import { AmbiguousPeerNameError } from '../errors.ts';

/** Gives the ids of the peers that a word can mean. */
export type Named = (text: string) => readonly string[];

/** As `requiresWithIds`, for every step. @throws AmbiguousPeerNameError */
export function withPeerIds(workflow: Workflow, named: Named): Workflow {
  if (workflow.steps.every(({ requires }) => requires.peers.length === 0)) return workflow;
  const steps = workflow.steps.map((step, position) => {
    return { ...step, requires: requiresWithIds(step.requires, named, `steps[${position}].requires`) };
  });
  return { ...workflow, steps };
}

/**
 * Names become ids. A name that no known peer has stays: the task waits for a peer with that name.
 * @param place of `requires` in the submission, for the message
 * @throws AmbiguousPeerNameError for a name that several peers have
 */
export function requiresWithIds(requires: Requires, named: Named, place: string): Requires {
  if (requires.peers.length === 0) return requires;
  const peers = requires.peers.map((text, position) => {
    const ids = named(text);
    if (ids.length > 1) throw new AmbiguousPeerNameError(`${place}.peers[${position}]`, text, ids);
    return ids[0] ?? text;
  });
  return { ...requires, peers };
}
