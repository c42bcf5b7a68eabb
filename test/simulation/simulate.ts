/**
 * One run of a simulated mesh from one seed: peers, a load, faults, and the promises checked at the end.
 *
 *   npm run simulate -- --seeds 1000
 *   npm run simulate -- --seed 17        replays one run and prints its trace
 */

import { isTerminal } from '../../scheduler/records.ts';
import { answerAll, type Cancels, cancelOne, crashOne, cutOne, holdOne, pauseOne, stopOne } from './faults.ts';
import { type Accepted, submitTask, submitWorkflow } from './load.ts';
import { SimulatedMesh } from './mesh.ts';
import { SlowEvaluator } from './slow-evaluator.ts';

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

/** Runs one seed. Broken promises are returned, not thrown. */
export async function simulate(seed: number, options: SimulationOptions = {}): Promise<SimulationResult> {
  const evaluator = new SlowEvaluator();
  const mesh = new SimulatedMesh(seed, { trace: options.trace ?? false, evaluator });
  const { world } = mesh;
  const { random } = world;
  const evaluationMs = random.pick([0, 5, 200]);
  evaluator.pause = () => new Promise((resolve) => world.at(random.between(0, evaluationMs), resolve));
  const names = Array.from({ length: options.peers ?? 3 }, (_, index) => `peer-${index}`);
  for (const name of names)
    await mesh.start(name, { slots: 1 + random.below(4), labels: name === 'peer-1' ? ['gpu'] : [] });
  await world.run(world.now + 200);
  mesh.board.faults = { loss: random.pick([0, 0.01, 0.1]), delayMs: [0.1, random.pick([1, 20, 300])] };

  const accepted: Accepted[] = [];
  const known: string[] = [];
  let refused = 0;
  let waitingFor = 0;
  const submit = (index: number) => {
    const owner = random.pick(names);
    const peer = mesh.peers.get(owner)!;
    if (!peer.alive) return;
    waitingFor++;
    (index < 0 ? submitWorkflow(mesh, owner) : submitTask(mesh, owner, index, known))
      .then(
        (done) => {
          accepted.push(done);
          if (index >= 0) known.push(`task-of-${index}`); // where that is not its id, waiting for it is refused
        },
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
      if (crashOne(mesh, names)) crashes++;
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
  for (let count = random.below(2); count > 0; count--) {
    world.at(random.between(500, 5_000), () => stopOne(mesh, names));
  }
  for (let count = random.below(2); count > 0; count--) {
    world.at(random.between(500, 5_000), () => holdOne(mesh, names));
  }
  for (let count = random.below(3); count > 0; count--) {
    world.at(random.between(500, 6_000), () => pauseOne(mesh, names, accepted));
  }
  answerAll(mesh, true);
  await world.run(world.now + 9_000);
  mesh.board.faults = { loss: 0, delayMs: [0.1, 1] };
  await world.run(world.now + 40_000, () => waitingFor === 0);
  await world.run(world.now + 1_000);
  const finished = await mesh.settle(accepted, 180_000);
  const failures = mesh.failures.map(({ message }) => message);
  if (!finished) failures.push('liveness: an accepted record is not terminal');
  failures.push(...(await checkOutcomes(mesh, accepted, cancels)));
  await world.run(world.now + 10_000);
  if (failures.length === 0) failures.push(...leftBehind(mesh));
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

/** Every accepted record has the right result, or failed with what it may fail with. */
async function checkOutcomes(mesh: SimulatedMesh, accepted: readonly Accepted[], cancels: Cancels): Promise<string[]> {
  const failures: string[] = [];
  for (const { owner, kind, uid, expected, mayFail } of accepted) {
    const record = await mesh.owned(kind, uid);
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
      if (JSON.stringify(result) !== JSON.stringify(expected)) {
        failures.push(`result: ${kind} ${uid} gave ${JSON.stringify(result)}, not ${JSON.stringify(expected)}`);
      }
    } else if (!mayFail.includes(record.error?.code ?? '')) {
      failures.push(`P4: ${kind} ${uid} is ${record.status}: ${record.error?.message}`);
    }
  }
  return failures;
}

/** P7: what has ended is in nobody's memory. */
function leftBehind(mesh: SimulatedMesh): string[] {
  const failures: string[] = [];
  for (const { peer_id, scheduler } of mesh.peers.values()) {
    const { feeds, dependencies, pool, directory } = scheduler;
    const owned = [...feeds.owned.values()];
    const left = {
      tasks: owned.reduce((sum, { tasks }) => sum + tasks.live.size, 0),
      queued: owned.reduce((sum, { tasks }) => sum + tasks.queue.size, 0),
      leases: owned.reduce((sum, { tasks }) => sum + tasks.leases.size, 0),
      workflows: owned.reduce((sum, { runs }) => sum + runs.live.size, 0),
      dependencies: dependencies.size,
      running: pool.running,
      kept: [...mesh.peers.keys()].flatMap((owner) => pool.holding(owner)).length,
      believed: directory.workers().filter((worker) => worker.tasks.length > 0).length,
    };
    if (Object.values(left).some((count) => count > 0)) failures.push(`P7: ${peer_id} keeps ${JSON.stringify(left)}`);
  }
  return failures;
}

function digestOf(mesh: SimulatedMesh): string {
  const lines = mesh.ledger.map(({ uid, attempt, peer, at }) => `${uid} ${attempt} ${peer} ${at}`);
  let value = 0;
  for (const char of lines.join('\n')) value = (Math.imul(value, 31) + char.charCodeAt(0)) >>> 0;
  return `${mesh.ledger.length}-${mesh.world.steps}-${value.toString(16)}`;
}
