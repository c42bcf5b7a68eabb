/**
 * One id that two peers have accepted: on two sides of a partition, or because the first owner went down before it could
 * answer and the client sent the same again elsewhere. When the two peers meet, one record keeps the id and everybody
 * finds that one (P5). The other is set aside: it can still be seen, under `<id>~<uid>`. If it is the same work and has
 * not ended it is cancelled, because the first one does it; other work goes on.
 */
import type { Feeds } from './feeds.ts';
import { feedHintOf, isoTime } from './ids.ts';
import { COMPARED_ROOTS_MAX } from './limits.ts';
import type { Alias, Located } from './messages.ts';
import type { Clock, Log, Reader } from './ports.ts';
import { isTerminal, type TaskRecord, type WorkflowRecord } from './records.ts';
import type { Remembered } from './recovery.ts';

export type Root = TaskRecord | WorkflowRecord;

export interface Duplicate {
  uid: string;
  /** The peer that has the one that keeps the id. */
  peer_id: string;
  /** It has the same content. */
  same: boolean;
}

type Locate = (items: Alias[]) => Promise<(Located | null)[]>;

interface DuplicateParts {
  clock: Clock;
  reader: Reader;
  feeds: Feeds;
  log: Log;
  /** Where records are, as far as one peer itself knows. */
  locateAt(peer: string, items: Alias[]): Promise<(Located | null)[]>;
}

export class Duplicates {
  private readonly parts: DuplicateParts;

  constructor(parts: DuplicateParts) {
    this.parts = parts;
  }

  /** Two peers have met: ids that this one has accepted since then are looked for at the other. */
  async compare(peer: string, sinceWall: number): Promise<void> {
    const { feeds, log } = this.parts;
    await feeds.whenAwake();
    const duplicates = await duplicatesOf(await this.acceptedSince(isoTime(Math.max(sinceWall, 0))), (items) =>
      this.parts.locateAt(peer, items),
    );
    for (const duplicate of duplicates) {
      const { uid } = duplicate;
      const feed = await feeds.of(uid);
      const stored = (await this.parts.reader.row(uid))?.record;
      if (feed === undefined || (stored?.kind !== 'task' && stored?.kind !== 'workflow')) continue;
      log.warn({ uid, peer, id: idOf(stored) }, 'an id was accepted twice; the other record keeps it');
      await feed.journal.turn((turn) => feed.giveWay(turn, duplicate, stored));
    }
  }

  private async acceptedSince(since: string): Promise<Root[]> {
    const query = { limit: COMPARED_ROOTS_MAX, offset: 0 };
    const { records: workflows } = await this.parts.reader.list({ kind: 'workflow', ...query });
    const { records: tasks } = await this.parts.reader.list({ kind: 'task', ...query });
    const roots = [...workflows, ...tasks.filter(({ workflow_uid }) => workflow_uid === null)];
    return roots.filter(({ created_at }) => created_at >= since);
  }
}

/** The roots among what a feed has open. */
export function rootsOf({ tasks, workflows }: Remembered): Root[] {
  return [...tasks, ...workflows].map(({ record }): Root => record).filter((record) => !isPart(record));
}

/** Which of these records give way to one that has the same id at another peer. */
export async function duplicatesOf(roots: readonly Root[], locate: Locate): Promise<Duplicate[]> {
  // An id that was made by a peer is nobody else's.
  const chosen = roots.filter((root) => !isPart(root) && feedHintOf(idOf(root)) === null);
  if (chosen.length === 0) return [];
  const found = await locate(chosen.map((root) => ({ kind: root.kind, id: idOf(root) })));
  return chosen.flatMap((root, position) => {
    const other = found[position];
    if (other?.uid === undefined || other.copy_of !== undefined || !givesWay(root, other.uid, other.status)) return [];
    return [{ uid: root.uid, peer_id: other.peer_id, same: other.content_hash === root.content_hash }];
  });
}

/** P5: one that has ended stays; else the one that was accepted later, whose answer the client has. */
function givesWay(mine: Root, uid: string, status: string): boolean {
  if (uid === mine.uid) return false; // the same one, in another history of its feed
  const [ended, otherEnded] = [isTerminal(mine.status), isTerminal(status)];
  return ended === otherEnded ? uid > mine.uid : otherEnded; // uids begin with the time
}

export function idOf(root: Root): string {
  return root.kind === 'task' ? root.task_id : root.workflow_id;
}

/** Under which id a record can be seen that has given way. */
export function setAside<R extends Root>(root: R): R {
  const id = `${idOf(root)}~${root.uid}`;
  return root.kind === 'task' ? { ...root, task_id: id } : { ...root, workflow_id: id };
}

function isPart(root: Root): boolean {
  return (root.kind === 'task' ? root.workflow_uid : root.parent_task_uid) !== null;
}
