/**
 * The work that is measured. Every action is `echo`, which a worker answers in its own process: what is left is what
 * the mesh costs.
 */
import type { JsonObject } from '../dag/errors.ts';
import { type Percentiles, percentilesOf } from './percentiles.ts';
import { nowNs } from './probes.ts';
import type { ThroughputFloor } from './throughput-floor.ts';
import type { Ran, ThroughputMesh } from './throughput-mesh.ts';

/** How much of each, in a round. */
export interface Amounts {
  tasks: number;
  /** Submits without an answer, of `tasks`. */
  in_flight: number;
  single_tasks: number;
  chains: number;
  fan_outs: number;
  diamonds: number;
}

export const CHAIN_STEPS = 20;
export const FAN_OUT_STEPS = 100;
const MS_PER_S = 1_000;
const NS_PER_MS = 1_000_000;

/** Samples by row; a rate is one sample. */
export type Measured = Record<WorkRow, number[]>;
export type WorkRow = 'tasks_rate' | 'answer' | 'task' | 'chain_step' | 'fan_out' | 'diamonds_rate';

export async function measureTasksRate(mesh: ThroughputMesh, { tasks, in_flight }: Amounts): Promise<number> {
  const ends: Promise<number>[] = [];
  const started = nowNs();
  let left = tasks;
  const client = async () => {
    while (left-- > 0) {
      const { ended_ms } = await mesh.submit('task_submit', echoTask());
      ends.push(ended_ms);
    }
  };
  await Promise.all(Array.from({ length: in_flight }, client));
  await Promise.all(ends);
  return perSecond(tasks, started);
}

export async function measureOthers(mesh: ThroughputMesh, amounts: Amounts): Promise<Omit<Measured, 'tasks_rate'>> {
  const singles = await oneByOne(amounts.single_tasks, () => mesh.run('task_submit', echoTask()));
  const chains = await oneByOne(amounts.chains, () => mesh.run('workflow_submit', chain()));
  const fanOuts = await oneByOne(amounts.fan_outs, () => mesh.run('workflow_submit', fanOut()));
  const started = nowNs();
  await Promise.all(Array.from({ length: amounts.diamonds }, () => mesh.run('workflow_submit', diamond())));
  return {
    answer: singles.map(({ answered_ms }) => answered_ms),
    task: singles.map(({ ended_ms }) => ended_ms),
    chain_step: chains.map(({ ended_ms }) => ended_ms / CHAIN_STEPS),
    fan_out: fanOuts.map(({ ended_ms }) => ended_ms),
    diamonds_rate: [perSecond(amounts.diamonds, started)],
  };
}

/** The same through bare SQLite and TCP, with as much in flight. */
export async function measureFloor(floor: ThroughputFloor, copies: number, amounts: Amounts): Promise<Measured> {
  const { tasks, in_flight, single_tasks, chains, fan_outs, diamonds } = amounts;
  const measure = (times: number, commits: number[]) => floor.measure({ commits, copies, times });
  const groups = await measure(Math.ceil(tasks / in_flight), [in_flight, in_flight]);
  const chain = await measure(
    chains,
    Array.from({ length: CHAIN_STEPS + 1 }, () => 1),
  );
  const together = await measure(1, [diamonds, diamonds, 2 * diamonds, diamonds]);
  return {
    tasks_rate: [(groups.length * in_flight * MS_PER_S) / groups.reduce((sum, ms) => sum + ms, 0)],
    answer: await measure(single_tasks, [1]),
    task: await measure(single_tasks, [1, 1]),
    chain_step: chain.map((ms) => ms / CHAIN_STEPS),
    fan_out: await measure(fan_outs, [1, 1, FAN_OUT_STEPS, 1]),
    diamonds_rate: together.map((ms) => (diamonds * MS_PER_S) / ms),
  };
}

export function summaryOf(measured: Measured): Record<WorkRow, Percentiles> {
  const entries = Object.entries(measured).map(([row, samples]) => [row, percentilesOf(samples)]);
  return Object.fromEntries(entries);
}

async function oneByOne(count: number, run: () => Promise<Ran>): Promise<Ran[]> {
  const all: Ran[] = [];
  for (let index = 0; index < count; index++) all.push(await run());
  return all;
}

function perSecond(count: number, startedNs: bigint): number {
  return (count * MS_PER_S) / (Number(nowNs() - startedNs) / NS_PER_MS);
}

function echoTask(): JsonObject {
  return { task_type: 'echo', payload: { message: 'no-op' } };
}

function step(id: string, depends_on: string[] = []): JsonObject {
  return { step_id: id, action: 'echo', depends_on };
}

function chain(): JsonObject {
  const ids = Array.from({ length: CHAIN_STEPS }, (_, index) => `step-${index}`);
  return { name: 'chain', steps: ids.map((id, index) => step(id, ids.slice(Math.max(0, index - 1), index))) };
}

function fanOut(): JsonObject {
  const middle = Array.from({ length: FAN_OUT_STEPS }, (_, index) => `step-${index}`);
  return { name: 'fan-out', steps: [step('first'), ...middle.map((id) => step(id, ['first'])), step('last', middle)] };
}

function diamond(): JsonObject {
  const sides = ['left', 'right'];
  return { name: 'diamond', steps: [step('top'), ...sides.map((id) => step(id, ['top'])), step('bottom', sides)] };
}
