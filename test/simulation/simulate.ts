/**
 * One run of a simulated mesh from one seed: peers, a load, faults, and the promises checked at the end.
 *
 *   npm run simulate -- --seeds 1000
 *   npm run simulate -- --seed 17        replays one run and prints its trace
 */

import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { parseWorkflow, requiresSchema, retrySchema } from '../../dag/schema.ts';
import { isTerminal } from '../../scheduler/records.ts';
import { SimulatedMesh } from './mesh.ts';

export interface SimulationOptions {
  peers?: number;
  tasks?: number;
  workflows?: number;
  trace?: boolean;
}

export interface SimulationResult {
  seed: number;
  accepted: number;
  refused: number;
  crashes: number;
  /** Starts of actions beyond the first of each task. */
  reruns: number;
  steps: number;
  /** A digest of everything that ran where and when: the same for the same seed. */
  digest: string;
  failures: string[];
  trace: string[] | null;
}

interface Accepted {
  owner: string;
  kind: 'task' | 'workflow';
  uid: string;
  expected: JsonValue | undefined;
}

/** Runs one seed. Broken promises are returned, not thrown. */
export async function simulate(seed: number, options: SimulationOptions = {}): Promise<SimulationResult> {
  const mesh = new SimulatedMesh(seed, { trace: options.trace ?? false });
  const { world } = mesh;
  const { random } = world;
  const names = Array.from({ length: options.peers ?? 3 }, (_, index) => `peer-${index}`);
  for (const name of names)
    await mesh.start(name, { slots: 1 + random.below(4), labels: name === 'peer-1' ? ['gpu'] : [] });
  await world.run(world.now + 200);
  mesh.board.faults = { loss: random.pick([0, 0.01, 0.1]), delayMs: [0.1, random.pick([1, 20, 300])] };

  const accepted: Accepted[] = [];
  let refused = 0;
  let waitingFor = 0;
  const submit = (index: number) => {
    const owner = random.pick(names);
    const peer = mesh.peers.get(owner)!;
    if (!peer.alive) return;
    waitingFor++;
    submitOne(mesh, owner, index)
      .then(
        (done) => accepted.push(done),
        () => refused++,
      )
      .finally(() => waitingFor--);
  };
  const total = (options.tasks ?? 40) + (options.workflows ?? 10);
  for (let index = 0; index < total; index++) {
    world.at(random.between(0, 4_000), () => submit(index < (options.tasks ?? 40) ? index : -1 - index));
  }
  let crashes = 0;
  for (let count = random.below(4); count > 0; count--) {
    world.at(random.between(200, 5_000), () => {
      const victim = random.pick(names);
      if (!mesh.peers.get(victim)!.alive) return;
      crashes++;
      const disk = mesh.kill(victim);
      world.at(random.between(10, 3_000), () => void mesh.restart(victim, disk));
    });
  }
  const cancels: Cancels = { asked: new Set(), confirmed: new Set() };
  for (let count = random.below(8); count > 0; count--) {
    world.at(random.between(500, 6_000), () => cancelOne(mesh, accepted, cancels));
  }
  for (let count = random.below(4); count > 0; count--) {
    world.at(random.between(100, 5_000), () => cutOne(mesh, names));
  }
  for (let count = random.below(3); count > 0; count--) {
    world.at(random.between(100, 6_000), () => {
      mesh.failNextSync(random.pick(names));
    });
  }
  await world.run(world.now + 9_000);
  mesh.board.faults = { loss: 0, delayMs: [0.1, 1] };
  await world.run(world.now + 40_000, () => waitingFor === 0);
  await world.run(world.now + 1_000);
  const finished = await mesh.settle(accepted, 180_000);
  const failures = mesh.failures.map(({ message }) => message);
  if (!finished) failures.push('liveness: an accepted record is not terminal');
  failures.push(...(await checkOutcomes(mesh, accepted, cancels)));
  const starts = new Set(mesh.ledger.map(({ uid }) => uid)).size;
  return {
    seed,
    accepted: accepted.length,
    refused,
    crashes,
    reruns: mesh.ledger.length - starts,
    steps: world.steps,
    digest: digestOf(mesh),
    failures,
    trace: world.trace,
  };
}

async function submitOne(mesh: SimulatedMesh, owner: string, index: number): Promise<Accepted> {
  const { random } = mesh.world;
  const { scheduler } = mesh.peers.get(owner)!;
  if (index < 0) {
    const workflow = diamond(random.below(5));
    const { record } = await scheduler.submitWorkflow({ workflow, copies: undefined, require_copies: false });
    await mustBeStored(mesh, owner, 'workflow', record.uid);
    return { owner, kind: 'workflow', uid: record.uid, expected: { sum: 3 * (workflow.input['n'] as number) } };
  }
  const once = random.chance(0.1);
  const payload: JsonObject = { index, ms: random.below(800), failures: random.chance(0.1) && !once ? 1 : 0, once };
  const { record } = await scheduler.submitTask({
    task_id: random.chance(0.5) ? `task-of-${index}` : undefined,
    task_type: payload['failures'] === 1 ? 'fn:flaky' : 'fn:work',
    payload,
    priority: random.below(3),
    tags: [],
    timeout_ms: undefined,
    retry: retrySchema.parse({ max_retries: 5, initial_delay_ms: 50 }),
    delay_ms: random.chance(0.1) ? 500 : undefined,
    deadline: undefined,
    requires: requiresSchema.parse(random.chance(0.1) ? { labels: ['gpu'] } : {}),
    depends_on: [],
    at_most_once: once,
    metadata: {},
  });
  await mustBeStored(mesh, owner, 'task', record.uid);
  return { owner, kind: 'task', uid: record.uid, expected: once ? undefined : payload };
}

/** P1: what was answered is on the disk. */
async function mustBeStored(mesh: SimulatedMesh, owner: string, kind: 'task' | 'workflow', uid: string): Promise<void> {
  const record = await mesh.peers.get(owner)!.store.reader.get(kind, uid);
  if (record === undefined) mesh.broken(`P1: ${kind} ${uid} was answered for and is not on the disk`);
}

function diamond(n: number) {
  const step = (step_id: string, depends_on: string[], inputs: JsonObject) => ({
    step_id,
    action: 'fn:work',
    depends_on,
    inputs: { ms: 50 * n, ...inputs },
  });
  return parseWorkflow({
    name: 'diamond',
    input: { n },
    steps: [
      step('top', [], { value: '${ input.n }' }),
      { ...step('sides', ['top'], { value: '${ item * steps.top.output.value }' }), foreach: [1, 2] },
      step('bottom', ['sides'], { sum: '${ $sum(steps.sides.output.value) }' }),
    ],
    output: { sum: '${ steps.bottom.output.sum }' },
  });
}

interface Cancels {
  asked: Set<string>;
  confirmed: Set<string>;
}

/** A cancel that was confirmed holds, whatever happens to the peers after it. */
function cancelOne(mesh: SimulatedMesh, accepted: readonly Accepted[], { asked, confirmed }: Cancels): void {
  if (accepted.length === 0) return;
  const { owner, kind, uid } = mesh.world.random.pick(accepted);
  const peer = mesh.peers.get(owner)!;
  if (!peer.alive) return;
  const { scheduler } = peer;
  const options = { reason: 'simulated', force: mesh.world.random.chance(0.5) };
  const done = kind === 'task' ? scheduler.cancelTask(uid, options) : scheduler.cancelWorkflow(uid, options);
  asked.add(uid);
  done.then(
    () => confirmed.add(uid),
    () => {}, // it has ended, or its owner is going down: then it may hold or not
  );
}

/** Two peers cannot reach each other for a while. */
function cutOne(mesh: SimulatedMesh, names: readonly string[]): void {
  const { random } = mesh.world;
  const [a, b] = [random.pick(names), random.pick(names)];
  if (a === b) return;
  mesh.world.note(`cut ${a} ${b}`);
  mesh.board.cut(a, b);
  mesh.world.at(random.between(50, 8_000), () => {
    mesh.world.note(`heal ${a} ${b}`);
    mesh.board.heal(a, b);
  });
}

/** Every accepted record has the right result; only an `at_most_once` task may have failed, with its worker lost. */
async function checkOutcomes(mesh: SimulatedMesh, accepted: readonly Accepted[], cancels: Cancels): Promise<string[]> {
  const failures: string[] = [];
  for (const { owner, kind, uid, expected } of accepted) {
    const { reader } = mesh.peers.get(owner)!.store;
    const record = await reader.get(kind, uid);
    if (record === undefined) {
      failures.push(`P1: ${kind} ${uid} was accepted by ${owner} and is gone`);
      continue;
    }
    // A cancel may be durable although its owner went down before it could say so; not the other way round.
    if (record.status === 'cancelled' && cancels.asked.has(uid)) continue;
    if (cancels.confirmed.has(uid)) {
      failures.push(`P1: the cancel of ${kind} ${uid} was confirmed; it is ${record.status}`);
    } else if (!isTerminal(record.status)) failures.push(`liveness: ${kind} ${uid} is ${record.status}`);
    else if (record.status === 'completed') {
      const result = record.kind === 'task' ? record.output : record.result;
      if (expected !== undefined && JSON.stringify(result) !== JSON.stringify(expected)) {
        failures.push(`result: ${kind} ${uid} gave ${JSON.stringify(result)}, not ${JSON.stringify(expected)}`);
      }
    } else if (expected !== undefined || record.error?.code !== 'WORKER_LOST') {
      failures.push(`P4: ${kind} ${uid} is ${record.status}: ${record.error?.message}`);
    }
  }
  return failures;
}

function digestOf(mesh: SimulatedMesh): string {
  const lines = mesh.ledger.map(({ uid, attempt, peer, at }) => `${uid} ${attempt} ${peer} ${at}`);
  let value = 0;
  for (const char of lines.join('\n')) value = (Math.imul(value, 31) + char.charCodeAt(0)) >>> 0;
  return `${mesh.ledger.length}-${mesh.world.steps}-${value.toString(16)}`;
}
