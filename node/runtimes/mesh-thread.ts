/** The entry of the mesh thread: runs the mesh side and serves its calls to the serve loop over the port. */
import { parentPort, workerData } from 'node:worker_threads';
import { createLog } from '../log.ts';
import { startMesh } from './mesh.ts';
import { serveMeshPort } from './mesh-port.ts';
import type { MeshThreadData } from './port-messages.ts';

const { config } = workerData as MeshThreadData;
const log = createLog({ level: config.log_level, fields: { name: config.name, loop: 'mesh' } });

await serveMeshPort(parentPort!, (told) => startMesh(config, log, { ...told }));
