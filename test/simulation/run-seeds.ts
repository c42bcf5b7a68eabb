/** Many seeds at once, on as many threads as there are cores. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { SeedThreadData } from './seed-thread.ts';
import type { SimulationResult } from './simulate.ts';

const THREADS_MAX = 8;

export interface RunOptions extends SeedThreadData {
  from: number;
  count: number;
  /** Begin no further seed after one that broke a promise. */
  stopAtFailure: boolean;
}

/** @param onResult called for each seed, in the order in which they end */
export async function runSeeds(options: RunOptions, onResult: (result: SimulationResult) => void): Promise<void> {
  const { from, count, stopAtFailure, mutation, favoured, liars, lies } = options;
  let next = from;
  const runInTurn = async () => {
    const thread = new Worker(new URL('./seed-thread.ts', import.meta.url), {
      workerData: { mutation, favoured, liars, lies } satisfies SeedThreadData,
    });
    try {
      while (next < from + count) {
        const result = await answerTo(thread, next++);
        if (stopAtFailure && result.failures.length > 0) next = from + count;
        onResult(result);
      }
    } finally {
      await thread.terminate();
    }
  };
  const threads = Math.min(availableParallelism(), THREADS_MAX, count);
  await Promise.all(Array.from({ length: threads }, runInTurn));
}

function answerTo(thread: Worker, seed: number): Promise<SimulationResult> {
  const { promise, resolve, reject } = Promise.withResolvers<SimulationResult>();
  const fail = (cause: unknown) => reject(new Error(`seed ${seed} ended its thread: ${cause}`, { cause }));
  thread.once('message', resolve);
  thread.once('error', fail);
  thread.postMessage(seed);
  return promise.finally(() => thread.off('message', resolve).off('error', fail));
}
