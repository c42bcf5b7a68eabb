/** P10: while MCP is spoken on stdout, whatever else is written there goes to stderr. */
import { Writable } from 'node:stream';
import type { Log } from '../../scheduler/ports.ts';

export interface ClaimedStdout {
  /** The only way to the real stdout. */
  stream: Writable;
  /** Gives stdout back. */
  release(): void;
}

/** Redirects `process.stdout.write`, and with it `console.log` and the output of worker threads, to stderr. */
export function claimStdout(log: Log): ClaimedStdout {
  const { stdout, stderr } = process;
  const write = stdout.write;
  let told = false;
  stdout.write = ((...chunk: Parameters<typeof stderr.write>) => {
    if (!told) log.warn({}, 'something writes to stdout, which belongs to MCP: it goes to stderr');
    told = true;
    return stderr.write(...chunk);
  }) as typeof stdout.write;

  const stream = new Writable({
    decodeStrings: false,
    write: (chunk, encoding, done) => void write.call(stdout, chunk, encoding, done),
  });
  const onError = (error: Error) => void stream.destroy(error);
  stdout.on('error', onError);
  return {
    stream,
    release() {
      stdout.write = write;
      stdout.off('error', onError);
    },
  };
}
