/** Runs seeds on a thread of its own: takes one number after another, answers what came of it. */
import { parentPort, workerData } from 'node:worker_threads';
import type { FaultKind } from './fault-plan.ts';
import type { Lie } from './lies.ts';
import { mutate } from './mutate.ts';
import { mutationNamed } from './mutations.ts';

export interface SeedThreadData {
  mutation: string | undefined;
  favoured: readonly FaultKind[];
  liars?: number | undefined;
  lies?: readonly Lie[] | undefined;
}

const { mutation, favoured, liars, lies } = workerData as SeedThreadData;
if (mutation !== undefined) mutate(mutationNamed(mutation));
// Not before the mutation is there.
const { simulate } = await import('./simulate.ts');

parentPort!.on('message', async (seed: number) => {
  parentPort!.postMessage(await simulate(seed, { favoured, liars, lies }));
});
