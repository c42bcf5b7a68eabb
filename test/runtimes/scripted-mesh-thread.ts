/**
 * A mesh thread whose tools do what a call's input says: the crashes, hangs and refusals to stop that the real mesh
 * side cannot be asked for. Only the mesh side is scripted; port, batching and thread are the real ones.
 */

import { parentPort, workerData } from 'node:worker_threads';
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { newMainFeedMemory } from '../../node/runtimes/main-feed.ts';
import type { CallOptions } from '../../node/runtimes/mesh-link.ts';
import { serveMeshPort } from '../../node/runtimes/mesh-port.ts';
import type { MeshThreadData } from '../../node/runtimes/port-messages.ts';

export type Script =
  | { do: 'echo'; value: string }
  | { do: 'fail' }
  /** Ends only when its signal aborts, with the code of the reason. */
  | { do: 'wait' }
  /** Takes no notice of its signal; ends on `release`. */
  | { do: 'stubborn' }
  | { do: 'release' }
  | { do: 'crash' }
  | { do: 'unclonable' }
  /** What happened on this thread so far. */
  | { do: 'report' };

const port = parentPort!;
const { config } = workerData as MeshThreadData;
const aborted: string[] = [];
const stubborn: (() => void)[] = [];
const batches: number[] = [];
let executed = 0;

port.on('message', (batch: unknown[]) => batches.push(batch.length));

async function call(_tool: string, input: unknown, { signal, deadlineMs }: CallOptions): Promise<JsonObject> {
  // A router lets only inputs of the tool through.
  const { payload } = input as { payload?: Script };
  const script = payload ?? ({ do: 'report', ...(input as object) } as Script);
  executed += 1;
  switch (script.do) {
    case 'echo':
      return { success: true, value: script.value };
    case 'fail':
      throw new FlowmeshError('SCRIPTED', 'as the script says', { retryable: true, details: { n: 1 } });
    case 'wait':
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          aborted.push((signal.reason as FlowmeshError).code);
          reject(signal.reason);
        });
      });
    case 'stubborn':
      return new Promise((resolve) => stubborn.push(() => resolve({ success: true })));
    case 'release':
      for (const release of stubborn.splice(0)) release();
      return { success: true };
    case 'crash':
      setImmediate(() => {
        throw new Error('scripted crash');
      });
      return new Promise(() => {});
    case 'unclonable':
      return { success: true, bad: (() => {}) as unknown as string };
    case 'report':
      return { success: true, executed, aborted, batches, listen: config.listen, deadline_ms: deadlineMs };
  }
}

await serveMeshPort(port, async () => {
  if (config.name === 'cannot-start') throw new FlowmeshError('SCRIPTED_START', 'this one never starts');
  return {
    info: {
      peer_id: 'scripted',
      addresses: ['/ip4/127.0.0.1/tcp/45678/p2p/scripted'],
      store_path: '',
      main_feed: newMainFeedMemory(),
    },
    call,
    state: () => ({ connected_peers: 0, addresses: [], running_calls: stubborn.length, inbound: {}, utilization: 0 }),
    drain: async () => ({ ended: 0, left: 0 }),
    meshRequest: async () => ({}),
    stop: async () => {},
  };
});
