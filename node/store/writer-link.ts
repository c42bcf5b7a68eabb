/** The way from a store to its writer: a thread of its own, or this loop. */
import { Worker } from 'node:worker_threads';
import { type FlowmeshError, RemoteError } from '../../dag/errors.ts';
import { siblingModule } from '../sibling-module.ts';
import { StoreFailedError } from './errors.ts';
import type { FeedHeads } from './feed-heads.ts';
import type { OpenOptions } from './file.ts';
import { Writer } from './writer.ts';
import { WriterLoop, type WriterReply, type WriterRequest } from './writer-loop.ts';
import type { WriterThreadData } from './writer-thread.ts';

export interface WriterLink {
  /** The heads of all feeds as they were when the file was opened. */
  readonly heads: FeedHeads;
  send(request: WriterRequest): void;
}

export interface WriterEvents {
  onReply(reply: WriterReply): void;
  /** The writer is gone without having been closed; nothing that it did not answer was acknowledged. */
  onLost(error: FlowmeshError): void;
}

export async function openInline(path: string, options: OpenOptions, events: WriterEvents): Promise<WriterLink> {
  const writer = new Writer(path, options);
  const loop = new WriterLoop(writer, (reply) => events.onReply(reply));
  return { heads: writer.heads, send: (request) => loop.receive(request) };
}

/** Resolves when the thread has opened and checked the file; rejects with the reason when it could not. */
export function openThread(path: string, options: OpenOptions, events: WriterEvents): Promise<WriterLink> {
  const data: WriterThreadData = { path, options };
  const worker = new Worker(siblingModule('writer-thread', import.meta.url), {
    workerData: data,
    name: 'flowmesh-store',
  });
  return new Promise((resolve, reject) => {
    let opened = false;
    let closed = false;
    let lost: FlowmeshError | null = null;
    worker.on('message', (reply: WriterReply) => {
      if (reply.type === 'opened') {
        opened = true;
        resolve({ heads: reply.heads, send: (request) => worker.postMessage(request) });
      } else if (reply.type === 'closed' && !opened) {
        closed = true;
        reject(reply.error === null ? new StoreFailedError(path, 'its thread closed.') : new RemoteError(reply.error));
      } else {
        if (reply.type === 'closed') closed = true;
        events.onReply(reply);
      }
    });
    worker.on('error', (error) => {
      lost = new StoreFailedError(
        path,
        `its thread crashed: ${error instanceof Error ? error.message : String(error)}`,
        {
          cause: error,
        },
      );
    });
    worker.on('exit', (code) => {
      if (closed) return;
      const error = lost ?? new StoreFailedError(path, `its thread ended with code ${code}.`);
      if (opened) events.onLost(error);
      else reject(error);
    });
  });
}
