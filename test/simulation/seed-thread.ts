/** Runs seeds on a thread of its own: takes one number after another, answers what came of it. */
import { parentPort, workerData } from 'node:worker_threads';
import type { FaultKind } from './fault-plan.ts';
import { mutate } from './mutate.ts';
import { mutationNamed } from './mutations.ts';

export interface SeedThreadData {
  mutation: string | undefined;
  favoured: readonly FaultKind[];
}

const { mutation, favoured } = workerData as SeedThreadData;
if (mutation !== undefined) mutate(mutationNamed(mutation));
// Not before the mutation is there.
const { simulate } = await import('./simulate.ts');

parentPort!.on('message', async (seed: number) => {
  parentPort!.postMessage(await simulate(seed, { favoured }));
});
