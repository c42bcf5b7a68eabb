/**
 * Two records with one id, because two peers accepted it: on two sides of a partition, or because the first owner went
 * down before it could answer and the client sent the same submit to another peer. When the two records meet, one keeps
 * the id and is what everybody finds (P5). The other is set aside: it can still be seen, under `<id>~<uid>`. If it has
 * the same content and has not ended, it is cancelled, because the first one does the work; different work goes on.
 *
 * Two records meet when their peers do, when this peer opens a feed, when a root comes with a hand-over, and soon after
 * a submit that could not learn for sure whether its id was free. A peer that asks also says which record it has
 * itself: both sides then know both records, and decide alike.
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

/** A decision is made anew when a record ends meanwhile. Each of the two ends only once, so this many are enough. */
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
  /** Asks all peers that can be reached. */
  readonly #everywhere: Locate = (items) => this.#parts.locator.locateAll(items);
  readonly #doubts: Alias[] = [];
  /** Feeds were opened whose records have not been compared yet. */
  #comparesSoon = false;

  constructor(parts: IdConflictParts) {
    this.#parts = parts;
  }

  /**
   * This peer has met another one: asks that one for records with the ids that were accepted here since a time.
   * @param sinceWall ms since 1970
   */
  async compare(peer: string, sinceWall: number): Promise<void> {
    await this.#parts.inquiry.whenAwake();
    const roots = await this.#acceptedSince(isoTime(Math.max(sinceWall, 0)));
    await this.#tellApart(roots, (items) => this.#parts.locator.locateAt(peer, items));
  }

  /**
   * Which records of a feed that is being opened have to yield their id. Rivals in other feeds of this peer that have
   * to yield theirs do so soon after. Called before this peer answers for the feed.
   */
  async among(remembered: Remembered): Promise<Duplicate[]> {
    const { self, records, locator, feeds } = this.#parts;
    const roots = chosenOf(rootsOf(remembered));
    const duplicates: Duplicate[] = [];
    for (const root of roots) {
      const rival = await records.find(aliasOf(root));
      if (rival === undefined || rival.uid === root.uid) continue;
      const isMade = !feeds.isBeingMade(rival.uid); // else `#meet` waits until it is
      if (isMade && yieldsId(root, rival)) duplicates.push(duplicateOf(root, { ...rival, peer_id: self }));
      else this.onRival(rival.uid, this.#heldOf(root));
    }
    const soon: Locate = (items) => locator.locateAll(items, { deadlineMs: INQUIRY_DEADLINE_MS });
    for (const [root, rival] of await this.#rivalsOf(roots, soon)) {
      if (yieldsId(root, rival)) duplicates.push(duplicateOf(root, rival));
    }
    return duplicates;
  }

  /** This peer owns a feed from now on. `among` saw its open records only: soon, all accepted ids are compared. */
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

  /** A root came with a hand-over; `rival` is the record that this peer had under the same id before. */
  adopted(root: Root, rival: LocalRecord | undefined): void {
    this.#quietly(this.#tellAdoptedApart(root, rival));
  }

  async #tellAdoptedApart(root: Root, rival: LocalRecord | undefined): Promise<void> {
    await this.#meetHere(root, rival);
    await this.#meetHere(root); // a rival that was accepted here meanwhile
    await this.#tellApart([root], this.#everywhere);
  }

  /** Compares a root with the other record that this peer has under the same id, if there is one. */
  async #meetHere(root: Root, known?: LocalRecord): Promise<void> {
    const rival = known ?? (await this.#parts.records.find(aliasOf(root)));
    if (rival !== undefined && rival.uid !== root.uid)
      await this.#meet(root.uid, { ...rival, peer_id: this.#parts.self });
  }

  /** A record was accepted although its id may not have been free: soon asks for a rival. */
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

  /** A record here has the same id as another one: this one yields, or the other peer is told that its record does. */
  onRival(uid: string, rival: Held): void {
    this.#quietly(this.#meet(uid, rival));
  }

  async #meet(uid: string, met: Held): Promise<void> {
    const { self, locator, reader } = this.#parts;
    for (let tries = 0; tries < DECISIONS_MAX; tries++) {
      const root = await this.#find(uid);
      // A rival of this peer is read as it is now. It is not found while its feed is being opened: `met` has to do.
      const other = met.peer_id === self ? await this.#find(met.uid) : undefined;
      if (root === undefined || isSetAside(root) || root.uid === met.uid) return;
      if (other !== undefined && isSetAside(other)) return;
      // The rival never came to the disk: its commit was refused.
      if (met.peer_id === self && other === undefined && (await reader.row(met.uid)) === undefined) return;
      const rival = other === undefined ? met : this.#heldOf(other);
      if (yieldsId(root, rival)) {
        if (await this.#yieldId(root, rival)) return;
      } else if (other !== undefined) {
        if (await this.#yieldId(other, this.#heldOf(root))) return;
      } else {
        // The rival's peer may not have waited for this peer's answer, or the answer was about another record then.
        if (rival.peer_id !== self)
          await locator.locateAt(rival.peer_id, [{ ...aliasOf(root), held: this.#heldOf(root) }]);
        return;
      }
    }
  }

  /** @returns false when `root` has ended meanwhile, which may change which record keeps the id */
  async #yieldId(root: Root, rival: Held): Promise<boolean> {
    const feed = await this.#parts.feeds.of(root.uid);
    if (feed === undefined) return true; // another peer owns the record by now, and compares it itself
    const hasYielded = await feed.journal.turn((turn) => feed.yieldId(turn, duplicateOf(root, rival)));
    if (hasYielded) {
      this.#parts.log.warn(
        { uid: root.uid, rival, id: idOf(root) },
        'an id was accepted twice; the other record keeps it',
      );
    }
    return hasYielded;
  }

  /** A root as it is now, once it may be shown: no record yields to one that may never reach a disk (P1). */
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

  /** Each of these roots whose id another peer's record has, with that record. */
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

/** The open records of a feed, the newest first. */
function rootsOf({ tasks, workflows }: Remembered): Root[] {
  return [...tasks, ...workflows].map(({ record }) => record).sort((a, b) => (a.uid < b.uid ? 1 : -1));
}
