/** What is known of a peer, put together from its connection and its own beats. */
import { z } from 'zod';
import type { PeerView } from '../../scheduler/api.ts';
import { allows, splitNeed } from '../../scheduler/capabilities.ts';
import type { WorkerState } from '../../scheduler/messages.ts';
import type { MeshContext } from '../definition.ts';

export function viewsById({ scheduler }: MeshContext): Map<string, PeerView> {
  return new Map(scheduler.peers().map((view) => [view.peer_id, view]));
}

export const sourceOut = z
  .enum(['dht', 'connected', 'met', 'mdns', 'bootstrap'])
  .describe('How it was found; `met`: it was connected before and is not now.');

/** How a peer is connected, for the outputs of several tools. */
export const pathOut = {
  path: z.enum(['direct', 'relayed']).nullable().describe('relayed: through another member. Null while not connected.'),
  path_reason: z.string().nullable().describe('For a relayed one: through whom, and why.'),
};

/** The actions and labels of all workers of a peer, sorted; null when the peer has not told them yet. */
export function capabilitiesOf(view: PeerView | undefined): string[] | null {
  if (view?.state == null) return null;
  return [...new Set(view.state.workers.flatMap(({ actions, labels }) => [...actions, ...labels]))].sort();
}

/** Whether one worker of the peer offers all of these capabilities. */
export function offers(view: PeerView | undefined, capabilities: string[]): boolean {
  if (capabilities.length === 0) return true;
  return (view?.state?.workers ?? []).some(
    (worker) => worker.status === 'active' && capabilities.every((each) => has(worker, each)),
  );
}

/** Whether a worker has a capability: an action, a label, or a part of an action that its peer allows (`shell:wc`). */
function has(worker: WorkerState, capability: string): boolean {
  if (worker.actions.includes(capability) || worker.labels.includes(capability)) return true;
  const [action, what] = splitNeed(capability);
  const says = worker.allows !== undefined && what !== null && worker.actions.includes(action);
  return says && allows(worker, capability);
}
