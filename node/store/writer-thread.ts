/** Entry of the store thread: opens the file, then writes what comes over the port until it is closed. */
import { parentPort, workerData } from 'node:worker_threads';
import { errorShape } from '../../dag/errors.ts';
import type { OpenOptions } from './file.ts';
import { Writer } from './writer.ts';
import { WriterLoop, type WriterReply, type WriterRequest } from './writer-loop.ts';

/** What the thread is started with. */
export interface WriterThreadData {
  path: string;
  options: OpenOptions;
}

const port = parentPort;
if (port === null)
  throw new Error('writer-thread.ts is the entry of a worker thread; open a store with openSqliteStore.');
const reply = (message: WriterReply) => port.postMessage(message);

try {
  const { path, options } = workerData as WriterThreadData;
  const writer = new Writer(path, options);
  const loop = new WriterLoop(writer, reply);
  port.on('message', (request: WriterRequest) => {
    loop.receive(request);
    if (request.type === 'close') port.unref();
  });
  reply({ type: 'opened', heads: writer.heads });
} catch (error) {
  reply({ type: 'closed', error: errorShape(error) });
}
