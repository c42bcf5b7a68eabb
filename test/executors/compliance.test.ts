import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FlowmeshError } from '../../dag/errors.ts';
import { createExecutors } from '../../node/executors/executors.ts';
import type { Clock } from '../../scheduler/ports.ts';
import { executorsCompliance } from '../compliance/executors.ts';
import { HANG_MS } from '../harness/patience.ts';
import { MemoryExecutors } from '../simulation/memory-executors.ts';
import { quietLog } from './recorded-io.ts';

executorsCompliance('executors of a peer', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'flowmesh-executors-'));
  const executors = await createExecutors(
    {
      data_dir: folder,
      pass_env: [],
      shell: { allow: [], step_env: [] },
      http_action: { private: false, allow: [] },
      functions: [join(import.meta.dirname, 'handlers.ts')],
    },
    quietLog,
  );
  return {
    executors,
    actions: { reports: 'fn:reports', fails: 'fn:fails', waits: 'fn:waits', ignores: 'fn:ignores' },
    now: () => performance.now(),
    slackMs: HANG_MS,
    cleanup: async () => {
      await executors.close();
      await rm(folder, { recursive: true });
    },
  };
});

/** Jumps to the next timer whenever nothing else is left to do in the turn. */
class JumpingClock implements Clock {
  #now = 0;
  now(): number {
    return this.#now;
  }
  wall(): number {
    return this.#now;
  }
  after(delayMs: number, callback: () => void): () => void {
    const immediate = setImmediate(() => {
      this.#now += delayMs;
      callback();
    });
    return () => clearImmediate(immediate);
  }
  defer(callback: () => void): void {
    queueMicrotask(callback);
  }
}

executorsCompliance('executors in memory', async () => {
  const clock = new JumpingClock();
  const executors = new MemoryExecutors({
    clock,
    behaviours: {
      reports: ({ uid, attempt }, io) => {
        io.progress(40, 'half');
        io.log('log', 'first');
        io.log('log', 'second');
        return { uid, attempt };
      },
      fails: ({ payload }) => {
        throw new FlowmeshError('JAMMED', String(payload['message']), { retryable: payload['retryable'] === true });
      },
      waits: async (_request, io) => {
        io.log('log', 'waiting');
        const { promise, resolve } = Promise.withResolvers<void>();
        io.signal.addEventListener('abort', () => resolve());
        await promise;
        return null;
      },
      ignores: async (_request, io) => {
        io.log('log', 'waiting');
        return await new Promise(() => {});
      },
    },
  });
  return {
    executors,
    actions: { reports: 'reports', fails: 'fails', waits: 'waits', ignores: 'ignores' },
    now: () => clock.now(),
    slackMs: 0,
    cleanup: async () => {},
  };
});
