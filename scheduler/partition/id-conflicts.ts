/**
 * One id that two peers have accepted: on two sides of a partition, or because the first owner went down before it could
 * answer and the client sent the same again elsewhere. When the two records meet, one keeps the id and everybody finds
 * that one (P5). The other is set aside: it can still be seen, under `<id>~<uid>`. If it is the same work and has not
 * ended it is cancelled, because the first one does it; other work goes on.
 *
 * They meet when two peers do, when this peer opens a feed, when a root comes with a hand-over, and soon after a submit
 * that had no clear answer whether its id is free. Whoever asks says what it has itself, so that both sides know of each other,
 * and both decide alike.
 */
import type { FeedTable } from '../feed/feed-table.ts';
import type { Remembered } from '../feed/restore.ts';
import { isoTime } from '../ids.ts';
import { COMPARED_ROWS_MAX, DOUBTS_TOGETHER_MS, INQUIRY_DEADLINE_MS, OPENED_TOGETHER_MS } from '../limits.ts';
import type { LocalRecords } from '../lookup/local-records.ts';
import type { Locator } from '../lookup/locator.ts';
import type { Alias, Held, Located, Question } from '../messages.ts';
import type { Inquiry } from '../ownership/inquiry.ts';
import type { Clock, Log, Reader } from '../ports.ts';
import {
  aliasOf,
  chosenOf,
  type Duplicate,
  duplicateOf,
  idOf,
  isChosen,
  isSetAside,
  type LocalRecord,
  localRecord,
  type Root,
  yieldsId,
} from '../storage/aliases.ts';

/** A record ends once while it is decided about it. */
const DECISIONS_MAX = 3;

type Locate = (items: Question[]) => Promise<(Located | null)[]>;

interface IdConflictParts {
  clock: Clock;
  self: string;
  reader: Reader;
  feeds: FeedTable;
  inquiry: Inquiry;
  log: Log;
  records: LocalRecords;
  locator: Pick<Locator, 'locateAll' | 'locateAt'>;
}

export class IdConflicts {
  readonly #parts: IdConflictParts;
  /** Where records are, as far as any peer that can be asked says so. */
  readonly #everywhere: Locate = (items) => this.#parts.locator.locateAll(items);
  readonly #doubts: Alias[] = [];
  /** Feeds were opened that are not compared yet. */
  #comparesSoon = false;

  constructor(parts: IdConflictParts) {
    this.#parts = parts;
  }

  /** Two peers have met: ids that this one has accepted since then are looked for at the other. */
  async compare(peer: string, sinceWall: number): Promise<void> {
    await this.#parts.inquiry.whenAwake();
    const roots = await this.#acceptedSince(isoTime(Math.max(sinceWall, 0)));
    await this.#tellApart(roots, (items) => this.#parts.locator.locateAt(peer, items));
  }

  /**
   * Which of these records of a feed that is just being opened give up their id; records of other feeds of this peer do so
   * soon.
   * The feed is not one of those that this peer answers for yet.
   */
  async among(remembered: Remembered): Promise<Duplicate[]> {
    const { self, records, locator, feeds } = this.#parts;
    const roots = chosenOf(rootsOf(remembered));
    const duplicates: Duplicate[] = [];
    for (const root of roots) {
      const rival = await records.find(aliasOf(root));
      if (rival === undefined || rival.uid === root.uid) continue;
      const isMade = !feeds.isBeingMade(rival.uid); // else they meet when it is
      if (isMade && yieldsId(root, rival)) duplicates.push(duplicateOf(root, { ...rival, peer_id: self }));
      else this.onRival(rival.uid, this.#heldOf(root));
    }
    const soon: Locate = (items) => locator.locateAll(items, { deadlineMs: INQUIRY_DEADLINE_MS });
    for (const [root, rival] of await this.#rivalsOf(roots, soon)) {
      if (yieldsId(root, rival)) duplicates.push(duplicateOf(root, rival));
    }
    return duplicates;
  }

  /** A feed is this peer's again, with what has ended in it: what this peer has accepted is looked for everywhere, soon. */
  onOwned(): void {
    if (this.#comparesSoon) return;
    this.#comparesSoon = true;
    this.#parts.clock.after(OPENED_TOGETHER_MS, () => {
      this.#comparesSoon = false;
      this.#quietly(this.#compareAll());
    });
  }

  async #compareAll(): Promise<void> {
    const roots = chosenOf(await this.#acceptedSince(''));
    for (const root of roots) await this.#meetHere(root);
    await this.#tellApart(roots, this.#everywhere);
  }

  /** A root came with a hand-over; `rival` is what this peer had under its id before. */
  adopted(root: Root, rival: LocalRecord | undefined): void {
    this.#quietly(this.#tellAdoptedApart(root, rival));
  }

  async #tellAdoptedApart(root: Root, rival: LocalRecord | undefined): Promise<void> {
    await this.#meetHere(root, rival);
    await this.#meetHere(root); // one that was accepted here meanwhile
    await this.#tellApart([root], this.#everywhere);
  }

  /** A root and what this peer has under its id besides. */
  async #meetHere(root: Root, known?: LocalRecord): Promise<void> {
    const rival = known ?? (await this.#parts.records.find(aliasOf(root)));
    if (rival !== undefined && rival.uid !== root.uid)
      await this.#meet(root.uid, { ...rival, peer_id: this.#parts.self });
  }

  /** A record was made with an id that may not have been free: now that it is there, both sides can hear of each other. */
  doubted(alias: Alias): void {
    if (this.#doubts.length === 0) this.#parts.clock.after(DOUBTS_TOGETHER_MS, () => this.#quietly(this.#lookAgain()));
    this.#doubts.push(alias);
  }

  async #lookAgain(): Promise<void> {
    const { records } = this.#parts;
    const roots: Root[] = [];
    for (const alias of this.#doubts.splice(0)) {
      const local = await records.find(alias);
      const root = local === undefined ? undefined : await this.#find(local.uid);
      if (root !== undefined) roots.push(root);
    }
    await this.#tellApart(roots, this.#everywhere);
  }

  /** A record here and another one have one id: this one gives the id up, or the other peer is told to. */
  onRival(uid: string, rival: Held): void {
    this.#quietly(this.#meet(uid, rival));
  }

  async #meet(uid: string, met: Held): Promise<void> {
    const { self, locator, reader } = this.#parts;
    for (let tries = 0; tries < DECISIONS_MAX; tries++) {
      const root = await this.#find(uid);
      // A record of this peer is as it is now, unless its feed is just being opened.
      const other = met.peer_id === self ? await this.#find(met.uid) : undefined;
      if (root === undefined || isSetAside(root) || root.uid === met.uid) return;
      if (other !== undefined && isSetAside(other)) return;
      // It was refused while it was on its way to the disk.
      if (met.peer_id === self && other === undefined && (await reader.row(met.uid)) === undefined) return;
      const rival = other === undefined ? met : this.#heldOf(other);
      if (yieldsId(root, rival)) {
        if (await this.#yieldId(root, rival)) return;
      } else if (other !== undefined) {
        if (await this.#yieldId(other, this.#heldOf(root))) return;
      } else {
        // It has asked, but may not have waited for the answer, or it was another one then.
        if (rival.peer_id !== self)
          await locator.locateAt(rival.peer_id, [{ ...aliasOf(root), held: this.#heldOf(root) }]);
        return;
      }
    }
  }

  /** @returns false when it has ended meanwhile, which may change which record keeps the id */
  async #yieldId(root: Root, rival: Held): Promise<boolean> {
    const feed = await this.#parts.feeds.of(root.uid);
    if (feed === undefined) return true; // not this peer's any more: its owner is told
    const hasYielded = await feed.journal.turn((turn) => feed.yieldId(turn, duplicateOf(root, rival)));
    if (hasYielded) {
      this.#parts.log.warn(
        { uid: root.uid, rival, id: idOf(root) },
        'an id was accepted twice; the other record keeps it',
      );
    }
    return hasYielded;
  }

  /** As it is now, once it may be shown: no record gives up its id for one that may never come to a disk (P1). */
  async #find(uid: string): Promise<Root | undefined> {
    const { feeds } = this.#parts;
    if (!(await feeds.whenMade(uid))) return undefined;
    const feed = await feeds.of(uid);
    const live = feed?.tasks.live.get(uid)?.record ?? feed?.runs.live.get(uid)?.record;
    if (live !== undefined || feed === undefined) return live;
    const stored = (await this.#parts.reader.row(uid))?.record;
    return stored?.kind === 'task' || stored?.kind === 'workflow' ? stored : undefined;
  }

  async #tellApart(roots: readonly Root[], locate: Locate): Promise<void> {
    for (const [root, rival] of await this.#rivalsOf(chosenOf(roots), locate)) await this.#meet(root.uid, rival);
  }

  /** The records of others that have the ids of these. */
  async #rivalsOf(roots: readonly Root[], locate: Locate): Promise<[Root, Held][]> {
    if (roots.length === 0) return [];
    const found = await locate(roots.map((root) => ({ ...aliasOf(root), held: this.#heldOf(root) })));
    return roots.flatMap((root, position): [Root, Held][] => {
      const other = found[position];
      if (other?.uid === undefined || other.copy_of !== undefined || other.uid === root.uid) return [];
      const { peer_id, uid, status, content_hash, refused } = other;
      return [[root, { peer_id, uid, status, content_hash, refused }]];
    });
  }

  #heldOf(root: Root): Held {
    return { peer_id: this.#parts.self, ...localRecord(root) };
  }

  #quietly(work: Promise<void>): void {
    work.catch((error: unknown) => {
      this.#parts.log.debug({ err: error }, 'records with one id could not be told apart; again when their peers meet');
    });
  }

  async #acceptedSince(since: string): Promise<Root[]> {
    const { reader } = this.#parts;
    const workflows = await reader.recentRoots('workflow', since, COMPARED_ROWS_MAX, isChosen);
    return [...workflows, ...(await reader.recentRoots('task', since, COMPARED_ROWS_MAX, isChosen))];
  }
}

/** The roots among what a feed has open, the newest first. */
function rootsOf({ tasks, workflows }: Remembered): Root[] {
  return [...tasks, ...workflows].map(({ record }) => record).sort((a, b) => (a.uid < b.uid ? 1 : -1));
}
