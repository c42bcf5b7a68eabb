/**
 * Preloaded into a peer (`NODE_OPTIONS='--expose-gc --import=…'`): each of its threads answers on a socket of its own in
 * HEAP_SOCKETS with the bytes that it still uses after a garbage collection.
 */
import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { isMainThread, threadId, threadName } from 'node:worker_threads';

const folder = process.env['HEAP_SOCKETS'];
// Handlers run in processes of their own, which have the peer's environment and a channel to it.
const isHandler = process.argv[1]?.endsWith('-process.ts') ?? false;
if (folder !== undefined && !isHandler) {
  const name = isMainThread ? 'serve' : threadName || String(threadId);
  createServer((socket) => {
    globalThis.gc!();
    const { heapUsed, external } = process.memoryUsage();
    socket.end(String(heapUsed + external));
  })
    .listen(join(folder, `${process.pid}-${name.replaceAll(' ', '-')}.sock`))
    .unref();
}

export interface MemoryOfPeer {
  /** By thread, after a garbage collection: JavaScript heap and buffers. */
  used_bytes: Record<string, number>;
  /** Of the process, as the system counts it. */
  rss_bytes: number;
}

/** Asks every thread of a process that has the probe. */
export async function memoryOf(sockets: string, pid: number): Promise<MemoryOfPeer> {
  const names = readdirSync(sockets).filter((name) => name.startsWith(`${pid}-`));
  const used = await Promise.all(
    names.map(
      async (name): Promise<[string, number]> => [
        name.slice(`${pid}-`.length, -'.sock'.length),
        Number(await text(connect(join(sockets, name)))),
      ],
    ),
  );
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(status)!;
  return { used_bytes: Object.fromEntries(used), rss_bytes: Number(kilobytes) * 1_024 };
}
