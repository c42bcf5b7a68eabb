/**
 * Preloaded into a peer (`NODE_OPTIONS=--import=…`): its mesh loop dies of an uncaught error each time somebody connects
 * to the socket `<pid>.sock` in CRASH_SOCKETS.
 */
import { rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { isMainThread, threadName } from 'node:worker_threads';

const folder = process.env['CRASH_SOCKETS'];
if (!isMainThread && threadName === 'flowmesh mesh' && folder !== undefined) {
  const path = socketOf(folder, process.pid);
  rmSync(path, { force: true });
  createServer(() => {
    throw new Error('a crash that a test asked for');
  })
    .listen(path)
    .unref();
}

function socketOf(folder: string, pid: number): string {
  return join(folder, `${pid}.sock`);
}

/** Resolves when the loop has been told; rejects while none listens. */
export function crashMeshLoop(folder: string, pid: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketOf(folder, pid));
    socket.once('connect', () => socket.destroy());
    socket.once('error', reject);
    socket.once('close', (failed) => !failed && resolve());
  });
}
