/** The mesh thread of a peer whose throughput is measured: the product's own, and the watch on its loop. */
import { BroadcastChannel, parentPort, type Worker, workerData } from 'node:worker_threads';
import { createLog } from '../node/log.ts';
import { startMesh } from '../node/runtimes/mesh.ts';
import { serveMeshPort } from '../node/runtimes/mesh-port.ts';
import type { MeshThreadData } from '../node/runtimes/port-messages.ts';
import { ownThreadFigures, threadFigures } from './throughput-figures.ts';
import { type ToServe, type ToWatch, watchChannel } from './throughput-peer.ts';
import { MeshWatch } from './throughput-watch.ts';

const STORE_THREAD = 'flowmesh-store';

const { config } = workerData as MeshThreadData;
const log = createLog({ level: config.log_level, fields: { name: config.name, loop: 'mesh' } });
const channel = new BroadcastChannel(watchChannel(config));
channel.unref();
const post = (message: ToServe) => channel.postMessage(message);

const store = new Promise<Worker>((resolve) => {
  process.on('worker', (worker) => {
    if (worker.threadName === STORE_THREAD) resolve(worker);
  });
});

await serveMeshPort(parentPort!, async () => {
  const mesh = await startMesh(config, log);
  const thread = await store;
  const watch = new MeshWatch(mesh, (ended) => post({ kind: 'ended', ended }));
  channel.onmessage = async ({ data }) => {
    if ((data as ToWatch | ToServe).kind !== 'ask') return;
    const storeFigures = threadFigures(thread.performance.eventLoopUtilization(), await thread.cpuUsage());
    post({ kind: 'figures', figures: { ...watch.counters, mesh: ownThreadFigures(), store: storeFigures } });
  };
  return mesh;
});
