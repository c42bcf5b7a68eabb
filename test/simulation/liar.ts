/**
 * A member of a simulated mesh that lies: the real scheduler, as a program that was changed, behind a network that
 * alters what it says and says more. What it cannot do is what no member can: speak as another peer, sign for another
 * one, or do what its certificate does not let it. It knows everything that anybody in the mesh knows.
 */
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { contentHash } from '../../scheduler/ids.ts';
import type { Beat, Lease, PeerState, PullAnswer, RowMessage } from '../../scheduler/messages.ts';
import type { Executors, NetworkEvents } from '../../scheduler/ports.ts';
import { type FeedRecord, type FlowRecord, isTerminal, type Row, type TaskRecord } from '../../scheduler/records.ts';
import type { Membership, Role } from '../../scheduler/roles.ts';
import { Signatures } from '../../scheduler/signatures.ts';
import { currentLine } from '../../scheduler/storage/feed-lines.ts';
import { containerUid, feedUid } from '../../scheduler/uids.ts';
import { LIES, type Lie } from './lies.ts';
import type { SimulatedMesh, SimulatedPeer } from './mesh.ts';
import { SimulatedNetwork } from './simulated-network.ts';
import type { LyingMember } from './simulated-peer.ts';
import { simulatedSigner } from './simulated-signer.ts';
import type { SeededRandom } from './world.ts';

/** By which role of its certificate a lie can matter at all. The others are refused at the edge. */
const ROLE_SETS: readonly (readonly Role[])[] = [
  ['submit', 'work', 'replicate', 'admin'],
  ['work'],
  ['replicate'],
  ['submit'],
  ['work', 'replicate'],
  [],
];
const LIE_CHANCE = 0.5;
const ALTERED_SHARE = 0.5;
const ACT_EVERY_MS = [20, 400] as const;
const FLOOD = 40;
const REMEMBERED_MAX = 200;
const DEADLINE_MS = 5_000;
/** An id that is asked for is claimed now and then only: what becomes of it is nobody's promise. */
const ID_CLAIM_SHARE = 0.05;

/** Told what a liar did to whom, as far as that bears on what is promised. */
export interface LieWatch {
  /** It said that it has, or somebody has, the record with an id. */
  idClaimed(kind: string, id: string): void;
  /** An honest owner has given it a lease of this task. */
  leased(uid: string): void;
}

/** What a liar is, by the seed. */
export interface LiarPlan {
  name: string;
  roles: readonly Role[];
  lies: ReadonlySet<Lie>;
}

export function planLiar(random: SeededRandom, name: string): LiarPlan {
  const lies = new Set(LIES.filter(() => random.chance(LIE_CHANCE)));
  if (lies.size === 0) lies.add(random.pick(LIES));
  return { name, roles: random.pick(ROLE_SETS), lies };
}

export class Liar implements LyingMember {
  readonly plan: LiarPlan;
  readonly membership: Membership;
  readonly network: SimulatedNetwork;
  /** How often it lied. */
  told = 0;
  readonly #mesh: SimulatedMesh;
  readonly #random: SeededRandom;
  readonly #watch: LieWatch;
  readonly #signatures: Signatures;
  /** What it said and heard. */
  readonly #remembered: { method: string; params: JsonObject }[] = [];
  #isGone = false;

  constructor(mesh: SimulatedMesh, plan: LiarPlan, watch: LieWatch) {
    this.plan = plan;
    this.membership = { roles: new Set(plan.roles), offers: null };
    this.#mesh = mesh;
    this.#random = mesh.world.random;
    this.#watch = watch;
    this.#signatures = new Signatures({ signer: simulatedSigner(plan.name), self: plan.name });
    this.network = new LyingNetwork(plan.name, mesh.board, this);
  }

  get name(): string {
    return this.plan.name;
  }

  /** It lies from now on, until it is found out. */
  begin(): void {
    this.#mesh.world.at(this.#random.between(...ACT_EVERY_MS), () => {
      if (this.#isGone) return;
      this.#act();
      this.begin();
    });
  }

  /** It is a member no more. */
  end(): void {
    this.#isGone = true;
  }

  #lies(lie: Lie, share = ALTERED_SHARE): boolean {
    if (this.#isGone || !this.plan.lies.has(lie) || !this.#random.chance(share)) return false;
    this.told++;
    return true;
  }

  // --- what it runs --------------------------------------------------------------------------------------------------

  /** Nothing that it runs counts as having been run: nobody can know what it did. */
  executors(honest: Executors): Executors {
    return {
      ...honest,
      run: async ({ payload }) => {
        if (this.#lies('idle', 0.3)) await new Promise<never>(() => {});
        await this.#pass(this.#random.between(0, 500));
        if (!this.#lies('wrong outputs')) return payload;
        if (this.#random.chance(0.3)) throw new Error('a liar failed');
        return this.#random.pick<JsonValue>([null, 'a lie', { lie: true }, { ...payload, value: -1, sum: -1 }]);
      },
    };
  }

  #pass(ms: number): Promise<void> {
    return new Promise((resolve) => this.#mesh.world.at(ms, resolve));
  }

  // --- what it is asked ----------------------------------------------------------------------------------------------

  heard(method: string, params: JsonObject): void {
    if (method === 'lease') for (const { uid } of params['leases'] as unknown as Lease[]) this.#watch.leased(uid);
    this.#remembered.push({ method, params });
    if (this.#remembered.length > REMEMBERED_MAX) this.#remembered.shift();
  }

  /** What it answers in place of the truth. */
  answer(from: string, method: string, params: JsonObject, truth: JsonValue): JsonValue {
    switch (method) {
      case 'push':
        if (!this.#lies('cursors')) return truth;
        return { seq: Math.max(Number((truth as JsonObject)?.['seq'] ?? 0) + this.#random.pick([-3, 1, 50]), 0) };
      case 'pull':
        return this.#pulled(params, truth as unknown as PullAnswer) as unknown as JsonValue;
      case 'lease':
      case 'takeover':
        return this.#lies('foreign leases', 0.2) ? this.#holds(from) : truth;
      case 'locate':
        return { found: this.#located(params, (truth as { found: JsonValue[] }).found) };
      case 'reserve':
        return { holders: this.#reserved(params, (truth as { holders: JsonValue[] }).holders) };
      default:
        return truth;
    }
  }

  #holds(of: string): JsonValue {
    const tokens = this.#leasesOf(this.#mesh.peers.get(of)).map(({ token }) => token);
    return { holding: tokens, items: [] } as unknown as JsonValue;
  }

  #located(params: JsonObject, found: JsonValue[]): JsonValue[] {
    const items = params['items'] as { kind: string; id: string; held?: { content_hash: string } }[];
    return found.map((truth, at) => {
      if (!this.#lies('ids', ID_CLAIM_SHARE)) return truth;
      const { kind, id, held } = items[at]!;
      this.#watch.idClaimed(kind, id);
      const content_hash = held?.content_hash ?? 'a lie';
      return { peer_id: this.name, addresses: [], uid: this.#random.id(20), status: 'completed', content_hash };
    });
  }

  #reserved(params: JsonObject, holders: JsonValue[]): JsonValue[] {
    const items = params['items'] as { kind: string; id: string }[];
    return holders.map((truth, at) => {
      if (!this.#lies('ids', ID_CLAIM_SHARE)) return truth;
      this.#watch.idClaimed(items[at]!.kind, items[at]!.id);
      return { peer_id: this.#somebody(), content_hash: 'a lie' };
    });
  }

  #pulled(params: JsonObject, truth: PullAnswer): PullAnswer {
    const feedId = String(params['feed_id']);
    const known = this.#feedOf(feedId);
    if (known === undefined) return truth;
    if (truth.feed === null && this.#lies('copies', 0.3)) return this.#invented(known);
    if (this.#lies('feeds', 0.3)) return this.#usurped(known, params['after'] as unknown as { seq: number });
    if (truth.feed === null || !this.#lies('copies')) return truth;
    const rows = truth.rows.flatMap((row) => this.#altered(row));
    const { random } = this.#mesh.world;
    return {
      feed: random.chance(0.1) ? { ...truth.feed, followers: [{ peer_id: this.name, synced: true }] } : truth.feed,
      rows: random.chance(0.2) ? random.shuffled(rows) : rows,
      whole: random.chance(0.1) ? !truth.whole : truth.whole,
      head_seq: Math.max(truth.head_seq + random.pick([0, 0, 0, 5, -5]), 0),
      complete: random.chance(0.1) ? !truth.complete : truth.complete,
    };
  }

  /** A copy that it does not have, as far as others have it, and some further. */
  #invented({ feed, rows, head }: KnownFeed): PullAnswer {
    const more = 1 + this.#random.below(3);
    const { epoch } = currentLine(feed);
    const forged = rows.slice(0, 5).flatMap((row) => this.#altered({ ...messageOf(row), epoch, seq: head + more }));
    return { feed, rows: forged, whole: true, head_seq: head + more, complete: true };
  }

  /** All that others have of a feed, in a line of this peer. */
  #usurped(known: KnownFeed, after: { seq: number }): PullAnswer {
    const feed = this.#taken(known);
    const { epoch, base_seq } = currentLine(feed);
    const before = known.rows
      .filter(({ uid }) => uid !== feed.uid)
      .sort((a, b) => a.seq - b.seq || (a.uid < b.uid ? -1 : 1));
    const rows = [...before.map(messageOf), { epoch, seq: base_seq + 1, text: JSON.stringify(feed) }];
    const wanted = rows.filter(({ seq }) => seq >= after.seq);
    return { feed, rows: wanted, whole: true, head_seq: base_seq + 1, complete: true };
  }

  /** The feed's record as if this peer had taken the feed over. */
  #taken({ feed, head }: KnownFeed): FeedRecord {
    const line = { epoch: currentLine(feed).epoch + 1 + this.#random.below(3), base_seq: head, owner: this.name };
    const followers = [...this.#mesh.peers.keys()].map((peer_id) => ({ peer_id, synced: this.#random.chance(0.5) }));
    const last = { ...line, nonce: 'lie' };
    // As the one that made it, or that took it over.
    const lines = this.#random.chance(0.3) ? [{ ...feed.lines[0]!, owner: this.name }, last] : [...feed.lines, last];
    return this.#signatures.feed({ ...feed, lines, followers, version: feed.version + 1 });
  }

  /** None, one or two rows in place of one. */
  #altered(row: RowMessage): RowMessage[] {
    const { random } = this.#mesh.world;
    if (random.chance(0.7)) return [row];
    if (random.chance(0.1)) return [];
    const record = JSON.parse(row.text) as FlowRecord;
    const changed = this.#changed(record);
    const invented = random.chance(0.2) ? [{ ...row, text: JSON.stringify({ ...changed, uid: random.id(20) }) }] : [];
    const seq = random.chance(0.05) ? row.seq + random.pick([-1, 1]) : row.seq;
    return [{ ...row, seq, text: JSON.stringify(changed) }, ...invented];
  }

  #changed(record: FlowRecord): FlowRecord {
    const { random } = this.#mesh.world;
    const ended_at = '2026-01-01T00:00:01.000Z';
    switch (record.kind) {
      case 'definition':
        return { ...record, workflow: { ...record.workflow, name: 'a lie' } };
      case 'workflow':
        return { ...record, status: 'completed', result: 'a lie', ended_at };
      case 'task':
        return random.pick<TaskRecord>([
          { ...record, status: 'completed', output: 'a lie', peer_id: this.#somebody(), ended_at },
          { ...record, status: 'cancelled', error: { code: 'LIE', message: '', retryable: false }, ended_at },
          { ...record, payload: { ...record.payload, value: -1 } },
          this.#signatures.accepted('', { ...record, payload: { lie: true } }),
        ]);
      case 'feed':
        return { ...record, followers: [{ peer_id: this.name, synced: true }], version: record.version + 1 };
      default:
        return random.chance(0.5) ? record : { kind: 'tombstone', uid: record.uid, cleared_at: ended_at };
    }
  }

  // --- what it says of itself ----------------------------------------------------------------------------------------

  describes(state: PeerState): PeerState {
    const feeds = this.#lies('feeds', 0.3) ? [...state.feeds, ...this.#claims()] : state.feeds;
    if (!this.#lies('beats')) return { ...state, feeds };
    const { random } = this.#mesh.world;
    const lie = { slots: random.pick([0, 1, 1_000]), running: random.below(3), labels: ['gpu', 'lie'] };
    const workers = state.workers.map((worker) => ({ ...worker, ...lie, actions: [...worker.actions, 'fn:lie'] }));
    const names = { name: random.pick([state.name, 'peer-0']), version: random.pick([state.version, '99.0.0']) };
    return { ...state, ...names, feeds, workers, queued: random.below(1_000), paused: random.chance(0.2) };
  }

  #claims(): PeerState['feeds'] {
    const known = this.#someFeed();
    if (known === undefined) return [];
    const { owner: _self, ...line } = currentLine(this.#taken(known));
    return [{ feed_id: known.feed.feed_id, ...line }];
  }

  /** What it sends in place of what its scheduler sends. */
  says(to: string, method: string, params: JsonObject): JsonObject {
    this.heard(method, params);
    if (method === 'beat') {
      const beat = params as unknown as Beat;
      const knows = this.#lies('beats')
        ? [...beat.knows, { peer_id: 'nobody', addresses: ['sim:nobody'] }]
        : beat.knows;
      const more = this.#lies('beats') ? this.#leasesOf(this.#mesh.peers.get(to)).map(({ token }) => token) : [];
      const holding = [...beat.holding, ...more];
      return { state: this.describes(beat.state), knows, holding } as unknown as JsonObject;
    }
    return params;
  }

  // --- what it does of its own accord --------------------------------------------------------------------------------

  #act(): void {
    const { random } = this.#mesh.world;
    const victim = random.pick([...this.#mesh.peers.values()].filter(({ alive }) => alive));
    if (victim === undefined) return;
    switch (random.pick(LIES)) {
      case 'foreign leases':
        if (this.#lies('foreign leases', 1)) this.#meddle(victim);
        break;
      case 'feeds':
        if (this.#lies('feeds', 1)) this.#claim(victim);
        break;
      case 'hand-overs':
        if (this.#lies('hand-overs', 1)) this.#handOver(victim);
        break;
      case 'replays':
        if (this.#lies('replays', 1)) this.#replay(victim);
        break;
      case 'nonsense':
        if (this.#lies('nonsense', 1)) this.#babble(victim);
        break;
      case 'floods':
        if (this.#lies('floods', 1)) for (let count = 0; count < FLOOD; count++) this.#replay(victim);
        break;
      default:
    }
  }

  #send({ peer_id }: SimulatedPeer, method: string, params: unknown): void {
    this.network.request(peer_id, method, params as JsonObject, DEADLINE_MS).catch(() => {});
  }

  /** It speaks of a lease of another worker as if it had it. */
  #meddle(victim: SimulatedPeer): void {
    const leases = this.#leasesOf(victim);
    if (leases.length === 0) return;
    const { random } = this.#mesh.world;
    const { token, hash, owner } = random.pick(leases);
    const lie = { ...token, message: '', lines: [] };
    const error = { code: 'LIE', message: 'it failed', retryable: false };
    const done = random.chance(0.7);
    const origin = random.chance(0.4) ? { granted_by: this.#somebody(), payload_hash: hash } : {};
    const ended = done
      ? { status: 'completed', output: 'a lie', error: null }
      : { status: 'failed', output: null, error };
    const result = { ...lie, ...ended, execution_time_ms: 1, dropped_lines: 0, ...origin };
    const method = random.pick(['result', 'result', 'result', 'progress', 'refuse', 'cancel']);
    if (method === 'result') {
      const results = [result] as never[];
      const signed = random.chance(0.8) ? this.#signatures.frame(results) : { signature: 'a lie' };
      this.#send(owner, method, { results, ...signed });
    } else if (method === 'progress') this.#send(owner, method, { items: [{ ...lie, percent: 99 }] });
    else if (method === 'refuse') this.#send(owner, method, { items: [{ ...lie, reason: random.pick(REASONS) }] });
    else this.#send(victim, method, { items: [{ ...lie, force: true, reason: 'a lie' }] });
  }

  /** It claims a feed: as one that takes over, and as one that brings commits. */
  #claim(victim: SimulatedPeer): void {
    const known = this.#someFeed();
    if (known === undefined) return;
    const { feed, head, rows } = known;
    const { feed_id } = feed;
    const taken = this.#taken(known);
    const line = currentLine(taken);
    if (this.#random.chance(0.5)) {
      this.#send(victim, 'takeover', { feed_id, line });
      return;
    }
    const forged = rows.slice(0, 3).flatMap((row) => this.#altered(messageOf(row)));
    const seq = head + 1;
    const message = { epoch: line.epoch, seq };
    const commit = [{ ...message, text: JSON.stringify(taken) }, ...forged.map((row) => ({ ...row, ...message }))];
    const of = this.#random.chance(0.7) ? line : currentLine(feed);
    this.#send(victim, 'push', { feed_id, line: of, prev_seq: head, head_seq: seq, rows: commit });
  }

  /** It hands a root over as if it had owned the feed. */
  #handOver(victim: SimulatedPeer): void {
    const [owned] = this.#random.shuffled(victim.scheduler.parts.feeds.all());
    const known = owned === undefined ? undefined : this.#feedOf(owned.feed_id);
    if (known === undefined) return;
    const { feed, rows } = known;
    const roots = rows.filter(({ record }) => record.kind === 'workflow' || record.kind === 'task');
    if (roots.length === 0) return;
    const root_uid = containerUid(this.#random.pick(roots).uid);
    const records = rows.filter(({ uid }) => containerUid(uid) === root_uid).map(({ record }) => this.#changed(record));
    const owner = this.#random.pick([this.name, this.#somebody(), currentLine(feed).owner]);
    const line = { ...currentLine(feed), owner, nonce: 'lie', base_seq: 0 };
    this.#send(victim, 'handover', { feed_id: feed.feed_id, line, root_uid, part: 0, last: true, records });
  }

  #replay(victim: SimulatedPeer): void {
    if (this.#remembered.length === 0) return;
    const { method, params } = this.#random.pick(this.#remembered);
    // A call does what its caller may do, and that is not a lie.
    if (method !== 'call') this.#send(victim, method, params);
  }

  #babble(victim: SimulatedPeer): void {
    const method = this.#random.pick(METHODS);
    const remembered = this.#remembered.filter((each) => each.method === method).at(-1)?.params ?? {};
    const names = Object.keys(remembered);
    const odd = this.#random.pick<unknown>([null, -1, 1e300, '', 'x'.repeat(2_000), [], [[]], {}, true, [null]]);
    const params = names.length === 0 ? { lie: odd } : { ...remembered, [this.#random.pick(names)]: odd };
    this.#send(victim, method, params);
  }

  // --- what it knows -------------------------------------------------------------------------------------------------

  #somebody(): string {
    return this.#random.pick([...this.#mesh.peers.keys(), this.name]);
  }

  #someFeed(): KnownFeed | undefined {
    const feeds = [...this.#mesh.peers.values()].flatMap(({ scheduler }) => scheduler.parts.feeds.all());
    return feeds.length === 0 ? undefined : this.#feedOf(this.#random.pick(feeds).feed_id);
  }

  /** The copy that is furthest. */
  #feedOf(feed_id: string): KnownFeed | undefined {
    let best: KnownFeed | undefined;
    for (const { disk } of this.#mesh.peers.values()) {
      const record = disk.rows.get(feedUid(feed_id))?.record;
      if (record?.kind !== 'feed') continue;
      const rows = [...disk.rows.values()].filter((row) => row.feed_id === feed_id);
      const head = rows.reduce((most, { seq }) => Math.max(most, seq), 0);
      if (best === undefined || head > best.head) best = { feed: record, rows, head };
    }
    return best;
  }

  /** Leases that a peer has given, or runs, and whose they are. */
  #leasesOf(peer: SimulatedPeer | undefined) {
    if (peer === undefined) return [];
    return peer.scheduler.parts.feeds.all().flatMap(({ feed_id, tasks }) =>
      [...tasks.live.values()].flatMap(({ record, lease }) => {
        if (lease === null || isTerminal(record.status)) return [];
        const { epoch, attempt } = lease;
        return [
          { token: { uid: record.uid, feed_id, epoch, attempt }, hash: contentHash(record.payload), owner: peer },
        ];
      }),
    );
  }
}

const REASONS = ['busy', 'unable', 'handed_back'] as const;
const METHODS = [
  ...['hello', 'beat', 'describe', 'lease', 'refuse', 'progress', 'result', 'cancel', 'claim', 'push', 'pull'],
  ...['takeover', 'handover', 'reserve', 'locate', 'nothing'],
];

/** What somebody in the mesh has of a feed. */
interface KnownFeed {
  feed: FeedRecord;
  rows: Row[];
  head: number;
}

function messageOf({ epoch, seq, record }: Row): RowMessage {
  return { epoch, seq, text: JSON.stringify(record) };
}

const NOTHING = { feed: null, rows: [], whole: true, head_seq: 0, complete: true };

/** The network of a liar: its scheduler does not know what becomes of its words. */
class LyingNetwork extends SimulatedNetwork {
  readonly #liar: Liar;

  constructor(self: string, board: SimulatedMesh['board'], liar: Liar) {
    super(self, board);
    this.#liar = liar;
  }

  override attach(...[events, describe, process]: Parameters<SimulatedNetwork['attach']>): void {
    const lying: NetworkEvents = {
      onMessage: async (from, method, params) => {
        if (from === this.self) return await events.onMessage(from, method, params);
        this.#liar.heard(method, params as JsonObject);
        const said = events.onMessage(from, method, params);
        const truth = (await (method === 'pull' ? said.catch(() => NOTHING) : said)) ?? null;
        return this.#liar.answer(from, method, params as JsonObject, truth);
      },
      onOffer: (from, offer) => events.onOffer(from, offer),
      onConnected: (peer, how) => events.onConnected(peer, how),
      onDisconnected: (peer) => events.onDisconnected(peer),
    };
    super.attach(lying, (to) => this.#liar.describes(describe(to)), process);
  }

  override async request(peer: string, method: string, params: JsonObject, deadlineMs: number): Promise<JsonValue> {
    return await super.request(peer, method, this.#said(peer, method, params), deadlineMs);
  }

  override notify(peer: string, method: string, params: JsonObject): void {
    super.notify(peer, method, this.#said(peer, method, params));
  }

  #said(peer: string, method: string, params: JsonObject): JsonObject {
    return peer === this.self ? params : this.#liar.says(peer, method, params);
  }
}
