/** The mesh thread of a measured peer: the product's own, and the probes on its loop. */
import { parentPort, workerData } from 'node:worker_threads';
import { createLog } from '../node/log.ts';
import { startMesh } from '../node/runtimes/mesh.ts';
import { serveMeshPort } from '../node/runtimes/mesh-port.ts';
import type { MeshThreadData } from '../node/runtimes/port-messages.ts';
import { ProbeServer } from './probe-channel.ts';
import { ProbedMesh } from './probes.ts';

const { config } = workerData as MeshThreadData;
const log = createLog({ level: config.log_level, fields: { name: config.name, loop: 'mesh' } });

await serveMeshPort(parentPort!, async () => {
  const mesh = await startMesh(config, log);
  const server = new ProbeServer();
  server.serve(new ProbedMesh(mesh, (result) => server.post({ kind: 'result', result })));
  return mesh;
});
