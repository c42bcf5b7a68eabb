/** This machine as a host of `hosted-peers.ts`: for meshes that are secured, and on loopback all the same. */
import { execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';
import type { PeerHost } from './hosted-peers.ts';

const run = promisify(execFile);
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

export const LOOPBACK_ARGS = ['--listen', '/ip4/127.0.0.1/tcp/0'];

export function thisMachine(name: string): PeerHost {
  return {
    name,
    spawn: (command, args, options = {}) => spawn(command, args, options),
    run: async (command, args, options) => {
      const { stdout } = await run(command, args, { ...options, encoding: 'utf8', maxBuffer: OUTPUT_BYTES_MAX });
      return stdout;
    },
  };
}
