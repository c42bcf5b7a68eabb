/**
 * One libp2p network of a peer in a process of its own, for tests over several networks: commands come as messages
 * of the channel, and so do answers.
 */

import type { JsonValue } from '../../dag/errors.ts';
import { createP2PNetwork } from '../../node/p2p/network.ts';
import type { Relaying } from '../../node/p2p/relay.ts';
import { SILENT_EVENTS, stateNamed } from '../integration/p2p-peers.ts';

export interface ProcessOptions {
  name: string;
  data_dir: string;
  bootstrap: string[];
  relay: Relaying;
}

export type Command =
  | { start: ProcessOptions }
  | { addresses: true }
  | { list: true }
  | { ask: string; text: string }
  | { dial: string; at: string[] };

const log = (level: string) => (fields: object, message: string) =>
  console.error(level, message, JSON.stringify(fields));
let network: Awaited<ReturnType<typeof createP2PNetwork>>;

async function run(command: Command): Promise<unknown> {
  if ('start' in command) {
    network = await createP2PNetwork({
      ...command.start,
      mesh: 'test',
      listen: ['/ip4/0.0.0.0/tcp/7600'],
      version: '0.1.0',
      mdns: false,
      gossip: true,
      auto_connect: true,
      target_connections: 8,
      log: { info: log('info'), warn: log('warn'), error: log('error'), debug: log('debug') },
    });
    network.attach({ ...SILENT_EVENTS, onMessage: async (_from, _method, params) => params as JsonValue }, () =>
      stateNamed(command.start.name),
    );
    await network.start();
    return network.self;
  }
  if ('addresses' in command) return network.addresses();
  if ('list' in command) return network.list();
  if ('dial' in command) return network.connect(command.dial, command.at);
  return network.request(command.ask, 'echo', { text: command.text }, 5_000);
}

process.on('message', ({ id, command }: { id: number; command: Command }) => {
  run(command).then(
    (result) => process.send?.({ id, result: result ?? null }),
    (error: Error) => process.send?.({ id, error: error.message }),
  );
});
process.on('disconnect', () => process.exit());
