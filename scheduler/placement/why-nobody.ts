/**
 * Why no connected worker can run a class of tasks, in one sentence for people: which requirements are not met, and by
 * which peers. Pure: the known workers in, the sentence out.
 */
import { listed } from '../../dag/quoted.ts';
import { allows, canRun, fits, isAllowed, type SeenWorker, splitNeed, type Wanted } from '../capabilities.ts';

export interface WhyNobody {
  reason: string;
  /** Names of the peers whose policy is all that keeps the task from running; empty when something else does, too. */
  refused_by: string[];
}

const REASON_CHARS_MAX = 500;

/** @param seen every known worker */
export function whyNobody(wanted: Wanted, seen: readonly SeenWorker[]): WhyNobody {
  const { action } = wanted;
  const offering = seen.filter(({ there, worker }) => there && worker.actions.includes(action));
  const active = offering.filter(({ worker }) => worker.status === 'active');
  const away = seen.filter((each) => !each.there && mayRun(each, wanted));
  const later = away.length === 0 ? '' : `; ${peersOf(away)}, not connected now, can run it`;
  if (active.length === 0) {
    const may = seen.filter(({ there, withheld }) => there && withheld?.actions.includes(action));
    const none = may.length > 0 ? `${action}: ${notLet(may)}` : `no connected peer offers ${action}`;
    const why = offering.length > 0 ? `the worker that offers ${action} is leaving` : none;
    return { reason: cut(why + later), refused_by: [] };
  }
  const missing = [...missingPeers(wanted, active, seen), ...missingOf(wanted, active)];
  // Only policy forbids the task when every worker that has all else refuses it, and no peer that is away may run it.
  const able = active.filter(({ worker, peer_id }) => fits(worker, peer_id, wanted));
  const refusing = able.filter(({ worker, refused }) => refused || !isAllowed(worker, wanted));
  const isPolicy = able.length > 0 && refusing.length === able.length && away.length === 0;
  if (missing.length === 0) missing.push(whyNone(wanted, active, able, refusing));
  return { reason: cut(missing.join('; ') + later), refused_by: isPolicy ? namesOf(refusing) : [] };
}

/** A need in words for people: `shell:wc` is "program wc". */
export function nameOfNeed(need: string): string {
  const [action, what] = splitNeed(need);
  if (action === 'shell') return `program ${what}`;
  if (action === 'http') return `host ${what}`;
  return need === 'http-private' ? 'private addresses' : need;
}

/** The command line option with which a peer allows a need. */
export function howToAllow(need: string): string {
  const [action, what] = splitNeed(need);
  return what === null ? `--${need}` : `--allow-${action} ${what}`;
}

/** The requirements that, taken alone, no worker that offers the action meets. */
function missingOf({ requires, needs }: Wanted, active: readonly SeenWorker[]): string[] {
  const missing: string[] = [];
  const among = howMany(active);
  for (const need of needs) {
    if (!active.some(({ worker }) => allows(worker, need))) {
      missing.push(`${nameOfNeed(need)}: not allowed on any of ${among}`);
    }
  }
  for (const label of requires.labels) {
    if (active.some(({ worker }) => worker.labels.includes(label))) continue;
    const may = active.filter(({ withheld }) => withheld?.labels.includes(label));
    missing.push(`label ${label}: ${may.length > 0 ? notLet(may) : `none of ${among}`}`);
  }
  for (const field of ['cpu_cores', 'memory_gb'] as const) {
    const wanted = requires[field];
    if (wanted === undefined) continue;
    const most = Math.max(...active.map(({ worker }) => worker[field] ?? 0));
    if (most < wanted) missing.push(`${field} ${wanted}: at most ${most} on ${among}`);
  }
  return missing;
}

function missingPeers(
  { requires: { peers }, action }: Wanted,
  active: readonly SeenWorker[],
  seen: readonly SeenWorker[],
): string[] {
  if (peers.length === 0 || active.some(({ peer_id }) => peers.includes(peer_id))) return [];
  return peers.map((id) => {
    const known = seen.find(({ peer_id }) => peer_id === id);
    if (known === undefined) return `peer ${id}: no worker of a peer with this id is known here`;
    return `peer ${known.name}: not connected, or does not offer ${action}`;
  });
}

/** Each requirement is met by some worker, but no worker meets all. */
function whyNone(
  wanted: Wanted,
  active: readonly SeenWorker[],
  able: readonly SeenWorker[],
  refusing: readonly SeenWorker[],
): string {
  if (able.length === 0) return `none of ${howMany(active)} has all that it requires`;
  if (refusing.length === able.length) {
    const what = wanted.needs.map(nameOfNeed).join(', ') || wanted.action;
    return `${what}: refused by the policy of ${peersOf(refusing)}`;
  }
  const unable = able.filter((each) => each.unable !== null);
  const why = unable.find((each) => each.unable !== '')?.unable;
  return `refused a moment ago by ${peersOf(unable)}${why === undefined ? '' : `: ${why}`}`;
}

function mayRun({ worker, peer_id, refused }: SeenWorker, task: Wanted): boolean {
  return !refused && canRun(worker, peer_id, task);
}

/** Some say that they offer it, and are not believed. */
function notLet(workers: readonly SeenWorker[]): string {
  return `the certificate of ${peersOf(workers)} does not let it work so; an admin can give it another one`;
}

function namesOf(workers: readonly SeenWorker[]): string[] {
  return [...new Map(workers.map(({ peer_id, name }) => [peer_id, name])).values()];
}

function peersOf(workers: readonly SeenWorker[]): string {
  return listed(namesOf(workers));
}

function howMany(workers: readonly SeenWorker[]): string {
  const count = new Set(workers.map(({ peer_id }) => peer_id)).size;
  return count === 1 ? '1 peer' : `${count} peers`;
}

function cut(text: string): string {
  return text.length > REASON_CHARS_MAX ? `${text.slice(0, REASON_CHARS_MAX - 1)}…` : text;
}
