/**
 * `npm run simulate`: many seeds, or one with its trace. Exits 1 when a promise was broken.
 *
 *   npm run simulate -- --seeds 1000 --from 1
 *   npm run simulate -- --seed 17
 *   npm run simulate -- --seeds 1000 --mutation 'at_most_once guard' --stop
 */
import { parseArgs } from 'node:util';
import { FAULT_KINDS, type FaultKind } from './fault-plan.ts';
import { LIES, type Lie } from './lies.ts';
import { mutate } from './mutate.ts';
import { mutationNamed } from './mutations.ts';
import { runSeeds } from './run-seeds.ts';
import type { SimulationResult } from './simulate.ts';

const { values } = parseArgs({
  options: {
    /** How many. */
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    /** This one alone, with everything that happens in it. */
    seed: { type: 'string' },
    /** Takes a promise out of the source (`mutations.ts`). */
    mutation: { type: 'string' },
    /** A kind of fault that is always there. */
    favour: { type: 'string', multiple: true, default: [] },
    /** How many peers lie; by default one, in the runs that have this fault. */
    liars: { type: 'string' },
    /** Of these kinds alone (`liar.ts`). */
    lie: { type: 'string', multiple: true },
    /** Begin no further seed after one that broke a promise. */
    stop: { type: 'boolean', default: false },
  },
});

const mutation = values.mutation === undefined ? undefined : mutationNamed(values.mutation);
const favoured = [...values.favour.map(faultKind), ...(mutation?.favoured ?? [])];

const lying = {
  liars: values.liars === undefined ? undefined : Number(values.liars),
  lies: values.lie?.map(lieNamed),
};

function lieNamed(name: string): Lie {
  const lie = LIES.find((each) => each === name);
  if (lie === undefined) throw new Error(`there is no lie "${name}": ${LIES.join(', ')}`);
  return lie;
}

function faultKind(name: string): FaultKind {
  const kind = FAULT_KINDS.find((each) => each === name);
  if (kind === undefined) throw new Error(`there is no fault "${name}": ${FAULT_KINDS.join(', ')}`);
  return kind;
}

/** What replays a seed. */
function commandOf(seed: number): string {
  const options = [
    `--seed ${seed}`,
    ...(values.mutation === undefined ? [] : [`--mutation '${values.mutation}'`]),
    ...values.favour.map((name) => `--favour '${name}'`),
    ...(values.liars === undefined ? [] : [`--liars ${values.liars}`]),
    ...(values.lie ?? []).map((name) => `--lie '${name}'`),
  ];
  return `npm run simulate -- ${options.join(' ')}`;
}

async function showOne(seed: number): Promise<void> {
  if (mutation !== undefined) mutate(mutation);
  const { simulate } = await import('./simulate.ts');
  const { trace, ...result } = await simulate(seed, { favoured, ...lying, trace: true });
  for (const line of trace ?? []) console.log(line);
  console.log(JSON.stringify(result, null, 2));
  if (result.failures.length > 0) process.exitCode = 1;
}

async function runMany(from: number, count: number): Promise<void> {
  const started = performance.now();
  const sums = { seeds: 0, accepted: 0, refused: 0, reruns: 0, spared: 0, broken: 0 };
  const faults = new Map<string, number>();
  const add = (result: SimulationResult) => {
    sums.seeds++;
    for (const name of ['accepted', 'refused', 'reruns', 'spared'] as const) sums[name] += result[name];
    for (const [kind, times] of Object.entries(result.faults)) faults.set(kind, (faults.get(kind) ?? 0) + times);
    if (result.failures.length === 0) return;
    sums.broken++;
    console.log(`${commandOf(result.seed)}    # ${result.failures[0]}`);
  };
  await runSeeds({ from, count, stopAtFailure: values.stop, mutation: mutation?.name, favoured, ...lying }, add);
  const minutes = (performance.now() - started) / 60_000;
  const struck = [...faults].map(([kind, times]) => `${kind} ${times}`).join(', ');
  console.log(`${sums.seeds} seeds, ${Math.round(sums.seeds / minutes)} a minute; faults: ${struck}`);
  console.log(
    `${sums.accepted} accepted, ${sums.refused} refused, ${sums.reruns} re-runs, ${sums.spared} that a liar had a hand in; ${sums.broken} seeds broke a promise`,
  );
  if (sums.broken > 0) process.exitCode = 1;
}

if (values.seed !== undefined) await showOne(Number(values.seed));
else await runMany(Number(values.from), Number(values.seeds));
