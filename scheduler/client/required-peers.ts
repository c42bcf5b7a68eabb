/** `requires.peers` of what is submitted: a name that one peer has becomes its id, so that it is resolved once. */
import type { Requires, Workflow } from '../../dag/schema.ts';
import { AmbiguousPeerNameError } from '../errors.ts';

/** The ids of peers that a word can mean. */
export type Named = (text: string) => readonly string[];

/** @throws AmbiguousPeerNameError */
export function withPeerIds(workflow: Workflow, named: Named): Workflow {
  if (workflow.steps.every(({ requires }) => requires.peers.length === 0)) return workflow;
  const steps = workflow.steps.map((step, position) => {
    return { ...step, requires: requiresWithIds(step.requires, named, `steps[${position}].requires`) };
  });
  return { ...workflow, steps };
}

/**
 * A name that nobody is known by stays: the task waits for a peer with it.
 * @param place of `requires`, for the message
 * @throws AmbiguousPeerNameError
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
