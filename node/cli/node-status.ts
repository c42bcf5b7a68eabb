/** `flowmesh node status`: the peer that commands talk to, from its data folder and from itself. */
import type { Command } from 'commander';
import type { JsonObject } from '../../dag/errors.ts';
import { PeerClient } from './client.ts';
import { EXIT } from './exit.ts';
import { findPeer, type PeerChoice } from './find-peer.ts';
import { printOutput } from './print-output.ts';
import { addPeerOptions, peerChoiceOf } from './tool-command.ts';

export function addStatusCommand(group: Command, run: (choice: PeerChoice, json: boolean) => Promise<void>): void {
  const command = group
    .command('status')
    .summary('Show the peer that commands talk to')
    .description('Shows the peer that commands talk to, and whether it can take work. Exit code 1: it cannot yet.');
  addPeerOptions(command);
  command
    .option('--json', 'Print it as JSON')
    .action(() => run(peerChoiceOf(command), command.opts<{ json?: boolean }>().json ?? false));
}

/** @returns the exit code: done when the peer is ready */
export async function showStatus(choice: PeerChoice, json: boolean): Promise<number> {
  const found = await findPeer(choice, process.env, process.cwd());
  const { url, record } = found;
  const state = await new PeerClient(found).status();
  const { admin_key: _secret, tls_cert: _file, ...known } = record ?? { admin_key: null, tls_cert: null };
  const output: JsonObject = { url, ...known, ...state };
  delete output['http_url'];
  if (output['ready'] === true) delete output['reasons'];
  await printOutput(output, { json, tool: { name: 'node_status' }, width: undefined });
  return output['ready'] === true ? EXIT.done : EXIT.failed;
}
