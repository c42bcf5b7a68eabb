/** Reading what a child process writes at a walk: whoever writes more than is read in an interval waits. */
import type { Readable } from 'node:stream';
import { CHILD_INTERVAL_MS } from './limits.ts';

/**
 * Reading all of it as it comes would leave the loop no time.
 *
 * @param onChunk returns how much of an interval this was: 1 is all of it
 * @returns from its call on, what comes is read at once: when the process has ended, and there is no more than the pipe holds
 */
export function readPaced(stream: Readable | null | undefined, onChunk: (chunk: Buffer) => number): () => void {
  let used = 0;
  let isPaced = true;
  stream?.on('data', (chunk: Buffer) => {
    if (used === 0) {
      const begin = () => {
        used = 0;
        stream.resume();
      };
      setTimeout(begin, CHILD_INTERVAL_MS).unref();
    }
    used += onChunk(chunk);
    if (used > 1 && isPaced) stream.pause();
  });
  return () => {
    isPaced = false;
    stream?.resume();
  };
}
