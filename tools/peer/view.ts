/** What is known of a peer, put together from its connection and from what it says about itself. */
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

/** The actions and labels of all workers of a peer, sorted; null when it has not told yet. */
export function capabilitiesOf(view: PeerView | undefined): string[] | null {
  if (view?.state == null) return null;
  return [...new Set(view.state.workers.flatMap(({ actions, labels }) => [...actions, ...labels]))].sort();
}

/** True when one worker of the peer offers all of them. */
export function offers(view: PeerView | undefined, capabilities: string[]): boolean {
  if (capabilities.length === 0) return true;
  return (view?.state?.workers ?? []).some(
    (worker) => worker.status === 'active' && capabilities.every((each) => has(worker, each)),
  );
}

/** Also what its peer allows of an action: `shell:wc`. */
function has(worker: WorkerState, capability: string): boolean {
  if (worker.actions.includes(capability) || worker.labels.includes(capability)) return true;
  const [action, what] = splitNeed(capability);
  const says = worker.allows !== undefined && what !== null && worker.actions.includes(action);
  return says && allows(worker, capability);
}
