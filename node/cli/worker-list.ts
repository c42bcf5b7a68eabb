/** `flowmesh worker list`: the workers of the mesh, as `queue_stats` tells of them. */
import { type Command, Option } from 'commander';
import type { JsonObject } from '../../dag/errors.ts';
import { queueStats } from '../../tools/queue/stats.ts';
import { PeerClient } from './client.ts';
import { EXIT } from './exit.ts';
import { findPeer, type PeerChoice } from './find-peer.ts';
import { printOutput } from './print-output.ts';
import { addPeerOptions, peerChoiceOf, terminalWidth } from './tool-command.ts';

export interface WorkerListing {
  scope: string;
  json: boolean;
  peer: PeerChoice;
}

export function addWorkerListCommand(group: Command, run: (listing: WorkerListing) => Promise<void>): void {
  const command = group
    .command('list')
    .summary('List workers')
    .description(
      'Lists the workers of the mesh: on which peer each is, its slots, what it runs, and what tasks can require of it.',
    )
    .addOption(
      new Option('--scope <choice>', 'mesh: those of every connected peer. local: those of the asked peer alone')
        .choices(['local', 'mesh'])
        .default('mesh'),
    );
  addPeerOptions(command);
  command.option('--json', 'Print them as JSON').action(() => {
    const { scope, json } = command.opts<{ scope: string; json?: true }>();
    return run({ scope, json: json ?? false, peer: peerChoiceOf(command) });
  });
}

export async function listWorkers({ scope, json, peer }: WorkerListing): Promise<number> {
  const client = new PeerClient(await findPeer(peer, process.env, process.cwd()));
  try {
    const stats = await client.call(queueStats.name, { include_worker_stats: true, scope });
    const workers = stats['worker_stats'] as JsonObject[];
    const missing = (stats['missing'] ?? []) as string[];
    const output = { workers, returned_count: workers.length, total_count: workers.length, missing };
    const { columns } = queueStats.cli!.list!;
    const shown = { name: 'worker_list', cli: { list: { field: 'workers', columns } } };
    await printOutput(output, { json, tool: shown, width: terminalWidth() });
    return EXIT.done;
  } finally {
    await client.close();
  }
}
