/**
 * One run of a simulated mesh from one seed: peers, clients, faults, and the promises looked after all along and
 * judged at the end.
 *
 *   npm run simulate -- --seeds 1000
 *   npm run simulate -- --seed 17        replays one run and prints its trace
 */
import type { OwnedFeed } from '../../scheduler/feed/owned-feed.ts';
import type { FeedRecord } from '../../scheduler/records.ts';
import { compareLines, currentLine } from '../../scheduler/storage/feed-lines.ts';
import { WHOLE } from '../../tools/cut.ts';
import { Clients } from './clients.ts';
import { areAnswersPrompt, type FaultKind, losesPeers, planFaults } from './fault-plan.ts';
import { type FaultCounts, Faults } from './faults.ts';
import { leftBehind } from './left-behind.ts';
import { Liar, planLiar } from './liar.ts';
import type { Lie } from './lies.ts';
import type { Handle } from './load.ts';
import { SimulatedMesh } from './mesh.ts';
import { Oracle } from './oracle.ts';
import { SlowEvaluator } from './slow-evaluator.ts';
import { SeededRandom } from './world.ts';

export interface SimulationOptions {
  /** Default 5. */
  peers?: number;
  /** Default 50. */
  workflows?: number;
  /** Default 30. */
  tasks?: number;
  /** How many peers lie; by default one, in the runs that have this fault. */
  liars?: number | undefined;
  /** Which lies they tell; by default the seed says. */
  lies?: readonly Lie[] | undefined;
  /** Kinds of faults that are always there, and strike more often. */
  favoured?: readonly FaultKind[];
  trace?: boolean;
}

export interface SimulationResult {
  seed: number;
  accepted: number;
  refused: number;
  faults: FaultCounts;
  /** Accepted records of which little is promised, because a liar had a hand in them (`oracle.ts`). */
  spared: number;
  /** Starts of actions beyond the first of each task. */
  reruns: number;
  steps: number;
  /** A digest of everything that ran where and when: the same for the same seed. */
  digest: string;
  /** Broken promises, the first one first; each begins with its number. */
  failures: string[];
  trace: string[] | null;
}

/** Clients submit until then, and faults strike a little longer. Simulated, as all times here. */
const SUBMITS_MS = 8_000;
const FAULTS_MS = 12_000;
const SETTLE_LIMIT_MS = 240_000;
/** After everything has ended: beats, acknowledgements and copies that are still on their way. */
const QUIET_MS = 10_000;
const MEETING_MS = 200;

/** Runs one seed. Broken promises are returned, not thrown. */
export async function simulate(seed: number, options: SimulationOptions = {}): Promise<SimulationResult> {
  const plan = planFaults(new SeededRandom(seed ^ 0x5eed), options.favoured);
  if (options.liars !== undefined) setLiars(plan.kinds, options.liars > 0);
  const evaluator = new SlowEvaluator();
  const oracle = new Oracle({
    withoutFaults: plan.kinds.size === 0,
    areAnswersPrompt: areAnswersPrompt(plan),
    broken: (message) => mesh.broken(message),
  });
  const mesh: SimulatedMesh = new SimulatedMesh(seed, {
    trace: options.trace ?? false,
    evaluator,
    clockRates: plan.kinds.has('clocks') ? [0.95, 1.05] : [1, 1],
    watch: oracle,
    servesTools: true,
    signs: true,
  });
  oracle.watch(mesh);
  mesh.actions.isExcused = (uid) => oracle.lies.isInShared(uid);
  if (!losesPeers(plan)) {
    // The worker keeps the result of what has succeeded, and says so: only what seems lost is run again.
    mesh.actions.onRepeated = (uid, peer) => mesh.broken(`P3: ${uid} had succeeded and is started again, at ${peer}`);
  }
  const { world } = mesh;
  const { random } = world;
  world.note(`faults: ${[...plan.kinds].join(', ')}`);
  const evaluationMs = random.pick([0, 5, 100]);
  evaluator.pause = () => new Promise((resolve) => world.at(random.between(0, evaluationMs), resolve));

  const names = Array.from({ length: options.peers ?? 5 }, (_, index) => `peer-${index}`);
  for (const name of names) {
    await mesh.start(name, { slots: 1 + random.below(4), labels: name === 'peer-1' ? ['gpu'] : [] });
  }
  if (plan.kinds.has('liar')) await letLie(mesh, oracle, options);
  await world.run(world.now + MEETING_MS);
  const clients = new Clients(mesh, oracle, {
    large: plan.kinds.has('large rows'),
    long: plan.kinds.has('long work'),
    triple: plan.kinds.has('three copies') ? 0.8 : 0.1,
    clears: plan.kinds.has('clear'),
  });
  const faults = new Faults(mesh, oracle, plan);
  faults.schedule(FAULTS_MS);
  scheduleClients(mesh, clients, options);
  if (plan.kinds.has('cancel')) scheduleCancels(mesh, clients);
  if (plan.kinds.has('clear')) scheduleClears(mesh, clients);
  await world.run(world.now + FAULTS_MS);

  faults.heal();
  clients.stopPausing();
  const end = world.now + SETTLE_LIMIT_MS;
  const isOver = () =>
    clients.waiting === 0 && oracle.isSettled(clients.handles) && isIdle(mesh, oracle) && !isOrphaned(mesh);
  while (world.now < end && mesh.failures.length === 0 && !isOver()) await world.run(world.now + 250);
  await world.run(world.now + QUIET_MS);
  if (mesh.failures.length === 0) oracle.judge(clients.handles);
  if (mesh.failures.length === 0) await askEveryone(mesh, clients, oracle);
  if (mesh.failures.length === 0) for (const left of leftBehind(mesh, oracle.lies)) mesh.broken(left);
  const starts = new Set(mesh.ledger.map(({ uid }) => uid)).size;
  return {
    seed,
    accepted: clients.handles.length,
    refused: clients.refused,
    faults: { ...faults.counts, ...liesOf(mesh) },
    spared: oracle.spared(clients.handles),
    reruns: mesh.ledger.length - starts,
    steps: world.steps,
    digest: digestOf(mesh),
    failures: mesh.failures,
    trace: world.trace,
  };
}

function setLiars(kinds: Set<FaultKind>, are: boolean): void {
  if (are) kinds.add('liar');
  else kinds.delete('liar');
}

async function letLie(mesh: SimulatedMesh, oracle: Oracle, { liars = 1, lies }: SimulationOptions): Promise<void> {
  const { random } = mesh.world;
  for (let number = 0; number < liars; number++) {
    const plan = planLiar(random, `liar-${number}`);
    const liar = new Liar(mesh, { ...plan, ...(lies !== undefined && { lies: new Set(lies) }) }, oracle.lies);
    mesh.world.note(`${plan.name}: roles ${plan.roles}; lies ${[...liar.plan.lies]}`);
    await mesh.joinLiar(liar, 1 + random.below(4));
  }
}

/** Everybody is awake and has nothing to do, for clients that heard no answer either. */
function isIdle({ peers }: SimulatedMesh, { lies }: Oracle): boolean {
  return [...peers.values()].every(({ clock, scheduler }) => {
    const owned = scheduler.parts.feeds.all().filter(({ feed_id }) => !lies.isShared(feed_id));
    const live = owned.flatMap(({ tasks, runs }) => [...tasks.live.values(), ...runs.live.values()]);
    return !clock.isHeld && live.every(({ record }) => lies.mayWaitForEver(record.uid));
  });
}

/** Nobody owns a feed in its line or a later one, and a peer with a copy of it is going to. */
function isOrphaned({ peers }: SimulatedMesh): boolean {
  const all = [...peers.values()];
  return all.some(
    ({
      peer_id,
      scheduler: {
        parts: { followed },
      },
    }) =>
      [...followed.all()].some((copy) => {
        const { feed_id, feed } = copy;
        if (feed === null || !followed.isComplete(copy)) return false;
        const isHeir = feed.followers.some((follower) => follower.synced && follower.peer_id === peer_id);
        return isHeir && !all.some((peer) => isOwned(peer.scheduler.parts.feeds.get(feed_id), feed));
      }),
  );
}

function isOwned(owned: OwnedFeed | undefined, feed: FeedRecord): boolean {
  return owned !== undefined && compareLines(currentLine(owned.feed), currentLine(feed)) >= 0;
}

/** Who does what when. */
function scheduleClients({ world }: SimulatedMesh, clients: Clients, options: SimulationOptions): void {
  const { random } = world;
  const { workflows = 50, tasks = 30 } = options;
  const often = (times: number, fromMs: number, toMs: number, what: () => Promise<void>) => {
    for (let count = 0; count < times; count++) world.at(random.between(fromMs, toMs), () => void what());
  };
  for (let piece = 0; piece < workflows + tasks; piece++) {
    world.at(random.between(0, SUBMITS_MS), () => void clients.submit(piece < tasks ? 'task' : 'workflow', piece));
  }
  often(random.below(10), 500, FAULTS_MS, () => clients.cancel());
  often(random.below(4), 100, SUBMITS_MS, () => clients.pause());
  often(30, 500, FAULTS_MS, () => clients.look());
  clients.attend();
}

/** How often the liars lied. */
function liesOf({ liars }: SimulatedMesh): FaultCounts {
  return liars.size === 0 ? {} : { liar: [...liars.values()].reduce((sum, { told }) => sum + told, 0) };
}

const CANCELS = 40;

function scheduleCancels({ world }: SimulatedMesh, clients: Clients): void {
  for (let count = 0; count < CANCELS; count++) {
    world.at(world.random.between(500, FAULTS_MS), () => void clients.cancel());
  }
}

const CLEARS_MAX = 12;

function scheduleClears({ world }: SimulatedMesh, clients: Clients): void {
  for (let count = 1 + world.random.below(CLEARS_MAX); count > 0; count--) {
    world.at(world.random.between(1_000, FAULTS_MS), () => void clients.clear());
  }
}

const ASKED_EVERYWHERE = 8;

/** Each record is asked for at one peer, and some at all of them. */
async function askEveryone(mesh: SimulatedMesh, clients: Clients, oracle: Oracle): Promise<void> {
  const { world } = mesh;
  const peers = [...mesh.peers.keys()];
  const ask = async (handle: Handle, peer: string) => {
    const { kind } = handle.work;
    const answer = await mesh
      .call(peer, `${kind}_result`, { [`${kind}_id`]: handle.id, ...WHOLE })
      .catch((error) => error);
    oracle.answered(handle, peer, answer);
    open--;
  };
  const questions = clients.handles.flatMap((handle, index) => {
    const asked =
      index % Math.ceil(clients.handles.length / ASKED_EVERYWHERE) === 0 ? peers : [world.random.pick(peers)];
    return asked.map((peer) => ({ handle, peer }));
  });
  let open = questions.length;
  for (const { handle, peer } of questions) void ask(handle, peer);
  await world.run(world.now + QUIET_MS, () => open === 0);
  if (open > 0) mesh.broken(`liveness: ${open} questions have no answer`);
}

function digestOf(mesh: SimulatedMesh): string {
  const lines = mesh.ledger.map(({ uid, attempt, peer, at }) => `${uid} ${attempt} ${peer} ${at}`);
  let value = 0;
  for (const char of lines.join('\n')) value = (Math.imul(value, 31) + char.charCodeAt(0)) >>> 0;
  return `${mesh.ledger.length}-${mesh.world.steps}-${value.toString(16)}`;
}
