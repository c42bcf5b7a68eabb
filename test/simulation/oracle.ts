/**
 * What the answers of a simulated mesh are worth. It knows what clients were told and what is on every disk, and says
 * which promise (docs/guarantees.md) an answer broke.
 */
import { isDeepStrictEqual } from 'node:util';
import { type ErrorShape, FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { isTerminal, type Row, type TaskRecord } from '../../scheduler/records.ts';
import { isSetAside } from '../../scheduler/storage/aliases.ts';
import { entry } from './entry.ts';
import { type End, endIn, endOf, Histories, isRoot, type Root } from './histories.ts';
import { LieLedger } from './lie-ledger.ts';
import { type Handle, LOST_CODES, type Work } from './load.ts';
import type { StoreOperation } from './memory-store.ts';
import type { MeshWatch, SimulatedMesh } from './mesh.ts';

type Kind = Work['kind'];

/** What was said of a record, and must stay true. */
interface Told {
  kind: Kind;
  id: string;
  /** The record of that name that was meant. */
  uid: string;
  /** Null: that it was accepted. */
  end: End | null;
  /** On how many disks, as was said. */
  copies: number;
  /** How many disks had been lost when the record was first on one. */
  losses: number;
  /** In which line of its feed. Whoever follows another line makes its copy anew. */
  epoch: number;
}

export class Oracle implements MeshWatch {
  readonly #broken: (message: string) => void;
  /** Nothing goes wrong in this run: every call has to succeed. */
  readonly #withoutFaults: boolean;
  readonly #histories: Histories;
  /** What liars had a hand in. */
  readonly lies: LieLedger;
  #mesh: SimulatedMesh | null = null;
  /** By kind and id: the records of that name. */
  readonly #uids = new Map<string, Set<string>>();
  /** By uid: its ends on any disk. */
  readonly #ends = new Map<string, Root[]>();
  readonly #told: Told[] = [];
  /** By kind and id: what the peers answered after everything was over. */
  readonly #answers = new Map<string, { peer: string; end: End }>();
  /** Uids of what was removed on request. */
  readonly #cleared = new Set<string>();
  #losses = 0;
  /** By uid: how many disks had been lost when it was first on one. */
  readonly #lossesBefore = new Map<string, number>();

  constructor(options: { withoutFaults: boolean; areAnswersPrompt: boolean; broken: (message: string) => void }) {
    this.#withoutFaults = options.withoutFaults;
    this.#broken = options.broken;
    this.lies = new LieLedger(options.broken);
    this.#histories = new Histories(options.broken, options.areAnswersPrompt, this.lies);
  }

  watch(mesh: SimulatedMesh): void {
    this.#mesh = mesh;
    this.#histories.watch(mesh);
    this.lies.watch(mesh);
  }

  // --- what happens in the mesh --------------------------------------------------------------------------------------

  committing(peer: string, rows: readonly Row[]): void {
    this.lies.committing(peer, rows);
    this.#histories.committing(peer, rows);
  }

  /** P3: what a record says of its last attempt is what the action itself saw. */
  #isAsItWas({ uid, task_type, status, peer_id, attempts }: TaskRecord): void {
    if (!task_type.startsWith('fn:') || this.lies.isTouched(uid) || this.lies.isInShared(uid)) return;
    const starts = this.#mesh!.actions.startsOf(uid);
    if (status === 'completed' && !starts.some(({ peer, outcome }) => peer === peer_id && outcome === 'succeeded')) {
      this.#broken(`P3: task ${uid} is completed by ${peer_id}, where it did not succeed`);
    }
    const last = attempts.at(-1);
    if (last === undefined || last.error.code !== 'FLAKY') return;
    const failed = starts.some(
      ({ attempt, peer, outcome }) => attempt === last.attempt && peer === last.peer_id && outcome === 'failed',
    );
    if (!failed)
      this.#broken(`P3: attempt ${last.attempt} of task ${uid} failed at ${last.peer_id} only by its record`);
  }

  held(peer: string, forMs: number): void {
    this.#histories.held(peer, forMs);
  }

  synced(peer: string, operation: StoreOperation): void {
    this.#histories.synced(peer, operation);
    if (operation.type !== 'commit') return;
    this.lies.synced(peer, operation.rows, this.#histories.feedOn(peer, operation.rows[0]?.feed_id ?? ''));
    for (const { record } of operation.rows) {
      if (record.kind === 'tombstone') this.#cleared.add(record.uid);
      if (!isRoot(record)) continue;
      // One that gave way before it was on a disk was accepted under the id that it has no more.
      for (const name of [nameOf(record), nameOf(record).replace(`~${record.uid}`, '')]) {
        entry(this.#uids, name, () => new Set()).add(record.uid);
      }
      entry(this.#lossesBefore, record.uid, () => this.#losses);
      if (isTerminal(record.status)) entry(this.#ends, record.uid, () => []).push(record);
      if (record.kind === 'task') this.#isAsItWas(record);
    }
  }

  // --- what clients are told -----------------------------------------------------------------------------------------

  /**
   * P1: on as many disks as it says.
   * @param owner who has the record by the answer: another one may have had the id before
   */
  accepted({ work: { kind }, id }: Handle, copies: number, owner?: string): void {
    if (this.#isBeyond(kind, id)) return;
    const uids = this.#uidsOf(kind, id).sort((a, b) => this.#histories.copiesOf(b) - this.#histories.copiesOf(a));
    const disks = this.#histories.copiesOf(uids[0] ?? '');
    if (disks < copies) this.#broken(`P1: ${kind} ${id} was answered with ${copies} copies and is on ${disks} disks`);
    const kept = uids.filter((each) => this.#uidsOf(kind, `${id}~${each}`).length === 0);
    const rows = this.#mesh!.peers.get(owner ?? '')?.disk.rows;
    const uid = kept.find((each) => rows?.has(each)) ?? kept[0] ?? uids[0] ?? '';
    this.#told.push({
      kind,
      id,
      uid,
      end: null,
      copies: Math.min(copies, this.#histories.copiesOf(uid)),
      losses: this.#lossesBefore.get(uid) ?? 0,
      epoch: this.#histories.epochOf(uid),
    });
  }

  /** P1: an end that is confirmed is on a disk. */
  confirmed(kind: Kind, id: string, status: string): void {
    if (this.#isBeyond(kind, id)) return;
    const end = this.#endsOf(kind, id).find((record) => record.status === status);
    if (end === undefined) this.#broken(`P1: ${kind} ${id} was confirmed as ${status}, which is on no disk`);
    else this.#tellEnd(kind, id, end);
  }

  seen({ work: { kind }, id }: Handle, answer: JsonObject): void {
    const said = endIn(answer);
    if (!isTerminal(said.status) || this.#isBeyond(kind, id)) return;
    const end = this.#endsOf(kind, id).find((record) => isDeepStrictEqual(endOf(record), said));
    if (end === undefined)
      this.#broken(`P1: ${kind} ${id} was answered as ${JSON.stringify(said)}, which is on no disk`);
    else this.#tellEnd(kind, id, end);
  }

  #tellEnd(kind: Kind, id: string, end: Root): void {
    this.#told.push({ kind, id, uid: end.uid, end: endOf(end), copies: 1, losses: this.#losses, epoch: 0 });
  }

  /** A submit that was given up. */
  refused({ kind, id }: Work, { code, message }: ErrorShape): void {
    if (id !== undefined && this.#isBeyond(kind, id)) return;
    if (code === 'CONFLICT' || code.startsWith('INVALID')) this.#broken(`result: ${kind} ${id}: ${code} ${message}`);
    if (this.#withoutFaults) this.#broken(`liveness: ${kind} ${id} was refused although nothing failed: ${message}`);
  }

  failed(tool: string, { code, message }: ErrorShape): void {
    if (this.#withoutFaults && code !== 'INVALID_STATE') {
      this.#broken(`liveness: ${tool} failed although nothing else did: ${code} ${message}`);
    }
  }

  // --- what may go wrong without breaking a promise ------------------------------------------------------------------

  /**
   * Whether everything that was told is also on the disk of another peer, which may go on with it. P1: what was told to
   * be on several disks has to be, unless one of them was lost meanwhile.
   */
  mayLose(peer: string): boolean {
    const alone = this.#told.filter((told) => this.#isAloneOn(peer, told));
    const broken = alone.find(
      ({ uid, copies, losses, epoch }) =>
        copies > 1 && losses === this.#losses && epoch === this.#histories.epochOf(uid),
    );
    if (broken !== undefined) {
      const { kind, id, copies } = broken;
      this.#broken(`P1: ${kind} ${id} was answered with ${copies} copies, and ${peer} alone has one that counts`);
    }
    return alone.length === 0;
  }

  /** The disk of a peer is gone, or came back as it was before. */
  lost(peer: string): void {
    this.#losses++;
    this.#histories.restored(peer);
  }

  #isAloneOn(peer: string, told: Told): boolean {
    const row = this.#mesh!.peers.get(peer)!.disk.rows.get(told.uid);
    if (row === undefined || !holds(row, told) || this.#isBeyond(told.kind, told.id)) return false;
    for (const [other, { disk }] of this.#mesh!.peers) {
      if (other === peer) continue;
      const copy = disk.rows.get(told.uid);
      if (copy === undefined || !this.#histories.counts(other, copy.feed_id)) continue;
      // A client had it cleared, and a disk that counts knows: older copies, which have not heard it, say nothing more.
      if (holds(copy, told) || copy.record.kind === 'tombstone') return false;
    }
    return told.end === null || !this.#histories.hasSuperseded(told.uid, told.end, peer);
  }

  // --- what must hold at the end -------------------------------------------------------------------------------------

  /** Every record that was accepted has ended, where it is owned. */
  isSettled(handles: readonly Handle[]): boolean {
    return handles.every(({ work: { kind }, id }) => {
      const records = this.#recordsOf(kind, id);
      if (this.#isBeyond(kind, id)) return true;
      const isDone = ({ status, uid }: Root) => isTerminal(status) || this.lies.mayWaitForEver(uid);
      return this.#isCleared(kind, id) || (records.length > 0 && records.every(isDone));
    });
  }

  /** Results are right and the same on every disk, and nothing that was told has become untrue. */
  judge(handles: readonly Handle[]): void {
    for (const handle of handles) if (!this.#isCleared(handle.work.kind, handle.id)) this.#judgeOne(handle);
    for (const { kind, id, uid, end } of this.#told) {
      const isSaid = (record: Root) => isDeepStrictEqual(endOf(record), end);
      if (end === null || this.#isBeyond(kind, id) || this.#recordsOf(kind, id).some(isSaid)) continue;
      // It gave way to another one with its id, and can be seen under one of its own.
      if (this.#ownedOf(uid).some((record) => isSetAside(record) && isSaid(record))) continue;
      if (this.#isCleared(kind, id) || this.#histories.hasSuperseded(uid, end)) continue;
      this.#broken(`P5: ${kind} ${id} was told to be ${JSON.stringify(end)}, and nothing says so now`);
    }
    this.#histories.judge();
  }

  #judgeOne({ work, id, cancel }: Handle): void {
    const { kind, expected, mayFail, atMostOnce } = work;
    if (this.#isBeyond(kind, id)) return;
    const records = this.#recordsOf(kind, id);
    if (records.length === 0) this.#broken(`P1: ${kind} ${id} was accepted and is gone`);
    for (const record of records) {
      const { status, error } = record;
      const { result } = endOf(record);
      if (!isTerminal(status)) {
        if (!this.lies.mayWaitForEver(record.uid)) this.#broken(`liveness: ${kind} ${id} is ${status}`);
      } else if (status === 'cancelled' && error?.code === 'SUPERSEDED') continue;
      else if (status === 'cancelled' && cancel === 'no') this.#broken(`result: ${kind} ${id} is cancelled by nobody`);
      else if (this.lies.isTouched(record.uid)) continue;
      else if (status === 'completed' && !isDeepStrictEqual(result, expected)) {
        this.#broken(`result: ${kind} ${id} gave ${JSON.stringify(result)}, not ${JSON.stringify(expected)}`);
      } else if (status === 'failed') {
        const lost = atMostOnce && !this.#withoutFaults && LOST_CODES.includes(error?.code ?? '');
        if (!lost && !mayFail.includes(error?.code ?? '')) {
          this.#broken(`result: ${kind} ${id} failed: ${error?.code} ${error?.message}`);
        }
      }
    }
    // The same content accepted twice may have been done twice, or lost in two ways, but not with two results.
    const ends = records.filter(({ error }) => error?.code !== 'SUPERSEDED').map(endOf);
    if (ends.some(({ status, result }) => !isDeepStrictEqual([status, result], [ends[0]!.status, ends[0]!.result]))) {
      this.#broken(`P5: ${kind} ${id} is there ${ends.length} times: ${ends.map(({ status }) => status)}`);
    }
  }

  /** P5: what a peer answered about a record after everything was over; or with which error. */
  answered({ work: { kind }, id }: Handle, peer: string, answer: JsonObject | FlowmeshError): void {
    if (this.#isCleared(kind, id) || this.#isBeyond(kind, id)) return;
    if (answer instanceof FlowmeshError) {
      this.#broken(`P5: ${peer} does not say what became of ${kind} ${id}: ${answer.code} ${answer.message}`);
      return;
    }
    const end = endIn(answer);
    const isRight = this.#recordsOf(kind, id).some((record) => isDeepStrictEqual(endOf(record), end));
    if (!isRight) this.#broken(`P5: ${peer} says of ${kind} ${id}: ${JSON.stringify(end)}, which its owner does not`);
    const first = entry(this.#answers, `${kind} ${id}`, () => ({ peer, end }));
    if (isDeepStrictEqual(first.end, end)) return;
    this.#broken(`P5: ${kind} ${id} is ${first.end.status} by ${first.peer}, ${end.status} by ${peer}`);
  }

  /** Nothing is promised of this record: its feed is kept by a liar, too, or its id was claimed by one. */
  #isBeyond(kind: Kind, id: string): boolean {
    return this.lies.isClaimed(kind, id) || this.#uidsOf(kind, id).some((uid) => this.lies.isInShared(uid));
  }

  /** How many of these records a liar had a hand in. */
  spared(handles: readonly Handle[]): number {
    const isTouched = ({ work: { kind }, id }: Handle) =>
      this.#isBeyond(kind, id) || this.#uidsOf(kind, id).some((uid) => this.lies.isTouched(uid));
    return handles.filter(isTouched).length;
  }

  #isCleared(kind: Kind, id: string): boolean {
    return this.#uidsOf(kind, id).some((uid) => this.#cleared.has(uid));
  }

  #uidsOf(kind: Kind, id: string): string[] {
    return [...(this.#uids.get(`${kind} ${id}`) ?? [])];
  }

  #endsOf(kind: Kind, id: string): Root[] {
    return this.#uidsOf(kind, id).flatMap((uid) => this.#ends.get(uid) ?? []);
  }

  /** What the owners have under a name on their disks now. */
  #recordsOf(kind: Kind, id: string): Root[] {
    const all = this.#uidsOf(kind, id).flatMap((uid) => this.#ownedOf(uid));
    return all.filter((record) => nameOf(record) === `${kind} ${id}`);
  }

  #ownedOf(uid: string): Root[] {
    const records: Root[] = [];
    for (const { alive, disk, scheduler } of this.#mesh!.peers.values()) {
      const row = disk.rows.get(uid);
      if (!alive || row === undefined || !isRoot(row.record)) continue;
      if (scheduler.parts.feeds.has(row.feed_id)) records.push(row.record);
    }
    return records;
  }
}

function nameOf(record: Root): string {
  return record.kind === 'task' ? `task ${record.task_id}` : `workflow ${record.workflow_id}`;
}

function holds({ record }: Row, { end }: Told): boolean {
  return isRoot(record) && (end === null || isDeepStrictEqual(endOf(record), end));
}
