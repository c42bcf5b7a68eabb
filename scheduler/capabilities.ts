/** What a task needs of a worker, what a worker can do, and whether the one fits the other. Pure. */
import type { Requires } from '../dag/schema.ts';
import type { WorkerState } from './messages.ts';
import { type Membership, mayDo } from './roles.ts';

/** What a task needs of the worker that gets it, and what it wishes for. */
export interface Wanted {
  action: string;
  requires: Requires;
  /** What the worker's peer has to allow, as the executors name it: `shell:wc`, `http:example.org`. */
  needs: readonly string[];
  /** Labels of a worker that is chosen before others while it has a free slot. */
  prefer: readonly string[];
  /** Peers that have refused this very task by their policy (`PeerTable.markOf`). */
  barred: readonly string[];
}

/** True when a worker can run tasks with this action and these requirements at all, now or when it has a slot. */
export function canRun(
  worker: WorkerState,
  peerId: string,
  wanted: Pick<Wanted, 'action' | 'requires' | 'needs'>,
): boolean {
  return fits(worker, peerId, wanted) && isAllowed(worker, wanted);
}

/** As `canRun`, whatever the policy of the worker's peer says. */
export function fits(
  worker: WorkerState,
  peerId: string,
  { action, requires }: Pick<Wanted, 'action' | 'requires'>,
): boolean {
  if (worker.status !== 'active') return false;
  if (!worker.actions.includes(action)) return false;
  if (requires.peers.length > 0 && !requires.peers.includes(peerId)) return false;
  if (!requires.labels.every((label) => worker.labels.includes(label))) return false;
  if (requires.cpu_cores !== undefined && (worker.cpu_cores ?? 0) < requires.cpu_cores) return false;
  return requires.memory_gb === undefined || (worker.memory_gb ?? 0) >= requires.memory_gb;
}

/** Whether the policy of a worker's peer lets this one run an action with these needs there, as far as it says. */
export function isAllowed(worker: WorkerState, { action, needs }: Pick<Wanted, 'action' | 'needs'>): boolean {
  return worker.denied?.includes(action) !== true && needs.every((need) => allows(worker, need));
}

/**
 * True when the policy of a worker's peer allows what a task needs: by its full name, by `<action>:*`, or by a pattern
 * such as `http:*.example.org`. A peer whose version does not say what it allows may allow it.
 */
export function allows({ allows: allowed }: Pick<WorkerState, 'allows'>, need: string): boolean {
  if (allowed === undefined || allowed.includes(need)) return true;
  const [action, what] = splitNeed(need);
  if (what === null) return false;
  return allowed.some((entry) => {
    const [of, pattern] = splitNeed(entry);
    return of === action && pattern !== null && covers(pattern, what);
  });
}

/** Whether a pattern stands for a program, a host or another pattern: `*` for every one, `*.b` for every name below b. */
export function covers(pattern: string, what: string): boolean {
  if (pattern === '*' || pattern === what) return true;
  return pattern.startsWith('*.') && what.endsWith(pattern.slice(1));
}

/** `shell:wc` as `shell` and `wc`; without a colon, `what` is null. */
export function splitNeed(need: string): [action: string, what: string | null] {
  const colon = need.indexOf(':');
  return colon === -1 ? [need, null] : [need.slice(0, colon), need.slice(colon + 1)];
}

/**
 * The strings under which a worker's peer announces itself in the DHT: its actions and labels, then what it allows of
 * the actions.
 */
export function capabilityNames(workers: readonly WorkerState[]): string[] {
  const names = new Set<string>();
  const allowed = new Set<string>();
  for (const worker of workers) {
    if (worker.status !== 'active') continue;
    for (const action of worker.actions) names.add(`action:${action}`);
    for (const label of worker.labels) names.add(`label:${label}`);
    for (const each of worker.allows ?? []) allowed.add(`action:${each}`);
  }
  return [...[...names].sort(), ...[...allowed].sort()];
}

/**
 * The strings under which a capability that a person names may be announced: only its peer knows whether it is an
 * action or a label. A peer that offers `shell:wc` may have announced `shell:*`.
 */
export function announcedAs(capability: string): string[] {
  const [action, what] = splitNeed(capability);
  const names = [`action:${capability}`, `label:${capability}`];
  return what === null || what === '*' || action === 'fn' ? names : [...names, `action:${action}:*`];
}

/** The rarest thing that a task needs, to ask the DHT for: a label, else what policy has to allow, else its action. */
export function capabilitiesToLookUp({ action, requires, needs }: Wanted): string[] {
  const label = requires.labels[0];
  if (label !== undefined) return [`label:${label}`];
  const [need] = needs;
  if (need === undefined) return [`action:${action}`];
  const [of, what] = splitNeed(need);
  return what === null ? [`action:${need}`] : [`action:${need}`, `action:${of}:*`];
}

/**
 * A worker as its peer's certificate lets it be believed: without the role `work` it offers nothing, else the actions and
 * labels that `offers` names. The same object when that is all of them.
 */
export function offeredUnder(membership: Membership | null, worker: WorkerState): WorkerState {
  if (!mayDo(membership, ['work'])) return { ...worker, actions: [], labels: [] };
  const { offers } = membership!;
  if (offers === null) return worker;
  const may = (name: string) => offers.some((each) => isNamedBy(each, name));
  return { ...worker, actions: worker.actions.filter(may), labels: worker.labels.filter(may) };
}

/** @param pattern a name, or one that ends with `*` and stands for all that begin so */
function isNamedBy(pattern: string, name: string): boolean {
  return pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

/** A known worker, and what keeps it from running a class of tasks. */
export interface SeenWorker {
  peer_id: string;
  name: string;
  /** As far as it is believed. */
  worker: WorkerState;
  /** What it says that it offers, and its peer's certificate does not let it; absent when there is nothing. */
  withheld?: { actions: readonly string[]; labels: readonly string[] } | undefined;
  /** Its peer is connected, and its beats come. */
  there: boolean;
  /** Its peer refused this very task by its policy. */
  refused: boolean;
  /** Why the worker refused tasks of this class a moment ago; null when it did not. */
  unable: string | null;
}
