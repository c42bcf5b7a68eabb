import type { PeerState } from '../../scheduler/messages.ts';
import type { NetworkEvents } from '../../scheduler/ports.ts';
import { type NetworkWorld, networkCompliance } from '../compliance/network.ts';
import { TestPeers, until } from './p2p-peers.ts';

async function openWorld(
  count: number,
  events: (index: number) => NetworkEvents,
  state: (index: number) => PeerState,
): Promise<NetworkWorld> {
  const peers = new TestPeers();
  const denied = Array.from({ length: count }, () => new Set<string>());
  const networks = await Promise.all(
    denied.map((set, index) => peers.open({ name: `peer-${index}`, denied: () => set }, events(index), state(index))),
  );
  for (const [index, network] of networks.entries()) {
    for (const other of networks.slice(index + 1)) await network.connect(other.self, other.addresses());
  }
  return {
    networks,
    async cut(a, b) {
      denied[a]!.add(networks[b]!.self);
      denied[b]!.add(networks[a]!.self);
      networks[a]!.dropDenied();
    },
    async heal(a, b) {
      denied[a]!.delete(networks[b]!.self);
      denied[b]!.delete(networks[a]!.self);
    },
    run: (promise) => promise,
    until,
    close: () => peers.close(),
  };
}

networkCompliance('libp2p', openWorld);
