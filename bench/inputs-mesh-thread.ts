/** The mesh thread of a peer that gets nasty inputs: the product's own, and a watch for the longest turn of its loop. */
import { BroadcastChannel, parentPort, workerData } from 'node:worker_threads';
import { createLog } from '../node/log.ts';
import { startMesh } from '../node/runtimes/mesh.ts';
import { serveMeshPort } from '../node/runtimes/mesh-port.ts';
import type { MeshThreadData } from '../node/runtimes/port-messages.ts';

/** How often the loop is looked at: a turn that is longer makes a gap. */
const TICK_MS = 2;

export interface Stall {
  /** Of the longest gap. */
  wall_ms: number;
  /** Processor time that this thread used in it. The rest it waited, for a core or for nothing. */
  cpu_ms: number;
}

/** Asked with the peer's name, answered with it and the longest stall since the last question. */
export const STALLS_CHANNEL = 'flowmesh-bench-stalls';

if (parentPort !== null) {
  const { config } = workerData as MeshThreadData;
  const log = createLog({ level: config.log_level, fields: { name: config.name, loop: 'mesh' } });
  let worst: Stall = { wall_ms: 0, cpu_ms: 0 };
  let last = { wall: performance.now(), cpu: cpuMs() };
  setInterval(() => {
    const now = { wall: performance.now(), cpu: cpuMs() };
    const stall = { wall_ms: now.wall - last.wall - TICK_MS, cpu_ms: now.cpu - last.cpu };
    if (stall.cpu_ms > worst.cpu_ms) worst = stall;
    last = now;
  }, TICK_MS).unref();
  const channel = new BroadcastChannel(STALLS_CHANNEL);
  channel.unref();
  channel.onmessage = (event) => {
    const { ask } = (event as { data: { ask?: string } }).data;
    if (ask !== config.name) return;
    channel.postMessage({ of: config.name, worst });
    worst = { wall_ms: 0, cpu_ms: 0 };
  };
  await serveMeshPort(parentPort, () => startMesh(config, log));
}

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}
