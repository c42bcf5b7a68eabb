/** `flowmesh node drain`: a peer that takes no more tasks, and stops when those that run there have ended. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { printable, printableJson } from '../printable.ts';
import { PeerClient } from './client.ts';
import { EXIT, UsageError } from './exit.ts';
import { findPeer, type PeerChoice } from './find-peer.ts';
import { addPeerOptions, peerChoiceOf } from './tool-command.ts';

const LOOK_AGAIN_MS = 250;

export interface DrainOptions {
  json: boolean;
  timeoutMs: number | undefined;
}

export function addDrainCommand(
  group: Command,
  run: (choice: PeerChoice, options: DrainOptions) => Promise<void>,
): void {
  const command = group
    .command('drain')
    .summary('Let a peer finish what it runs, and stop it')
    .description(
      'Tells the peer that commands talk to that it takes no more tasks and stops when those that run there have ended, or after the timeout: the rest is handed back to run elsewhere. SIGTERM does the same. Returns when the peer has stopped.',
    );
  addPeerOptions(command);
  command
    .option('--timeout-ms <ms>', "How long the tasks may take to end (default: the peer's --drain-timeout-ms)")
    .option('--json', 'Print it as JSON')
    .action(() => {
      const { json = false, timeoutMs } = command.opts<{ json?: boolean; timeoutMs?: string }>();
      return run(peerChoiceOf(command), { json, timeoutMs: msOf(timeoutMs) });
    });
}

function msOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new UsageError(`--timeout-ms: "${text}" is not a number of milliseconds`);
}

/** It answers as long as it runs, and is not ready; one that is ready was started anew in its place. */
async function stillStops(peer: PeerClient): Promise<boolean> {
  return await peer.status().then(
    ({ ready }) => ready !== true,
    () => false,
  );
}

/** @returns the exit code, when the peer has stopped */
export async function drainPeer(choice: PeerChoice, { json, timeoutMs }: DrainOptions): Promise<number> {
  const peer = new PeerClient(await findPeer(choice, process.env, process.cwd()));
  const { name, peer_id } = await peer.drain(timeoutMs);
  if (!json) process.stderr.write(`Peer ${printable(String(name))} drains …\n`);
  while (await stillStops(peer)) await delay(LOOK_AGAIN_MS);
  const output = { success: true, name: name!, peer_id: peer_id!, status: 'stopped' };
  process.stdout.write(json ? `${printableJson(output, 2)}\n` : `Peer ${printable(String(name))} has stopped.\n`);
  return EXIT.done;
}
