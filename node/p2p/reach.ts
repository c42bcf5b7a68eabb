/** How this peer and others reach each other, for an admin who asks, and for invites that name members. */
import type { Libp2p } from '@libp2p/interface';
import type { ConnectionInfo } from '../../tools/peers.ts';
import type { RequestParts } from '../membership/requests.ts';
import { dialable, isRelayed } from './addresses.ts';
import type { KnownPeers } from './known-peers.ts';

const TRY_ADDRESS_TIMEOUT_MS = 3_000;

interface ReachParts {
  node: Libp2p;
  known: KnownPeers;
  list: () => ConnectionInfo[];
  listen: string[];
}

/** @param notes about this machine */
export function reachOf(parts: ReachParts, notes: string[]): Pick<RequestParts, 'reach' | 'tryAddresses'> {
  const { node, list, listen } = parts;
  return {
    reach: () => ({
      listens: listen,
      announces: node.getMultiaddrs().map(String),
      peers: list().map(({ peer_id, status, path, relay, path_reason }) => {
        const how = path === 'relayed' ? `relayed through ${relay}: ${path_reason}` : path;
        return { peer_id, connected: status === 'connected', path: how };
      }),
      notes,
    }),
    tryAddresses: (peer) => tryAddresses(parts, peer),
  };
}

/** Dials a peer at what it says of itself. @returns where it answered, now or before */
export async function tryAddresses(
  { node, known }: Pick<ReachParts, 'node' | 'known'>,
  peer: string,
): Promise<string[]> {
  const found = known.get(peer);
  if (found === undefined) return [];
  const signal = AbortSignal.timeout(TRY_ADDRESS_TIMEOUT_MS);
  const untried = found.addresses.filter((each) => !isRelayed(each) && !found.reached.includes(each));
  const tried = untried.map(async (address) => {
    const connection = await node.dial(dialable(address, peer), { signal, force: true });
    await connection.close();
    return address;
  });
  const answers = await Promise.allSettled(tried);
  known.reachedAt(
    peer,
    answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : [])),
  );
  return found.reached;
}
