/** What this peer keeps of the DHT for others is bounded, per peer and in all. */
import { generateKeyPair } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { MemoryDatastore } from 'datastore-core';
import type { Datastore } from 'interface-datastore';
import { Key } from 'interface-datastore/key';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DhtStore, PROVIDER_RECORDS_MAX, PROVIDER_RECORDS_PER_PEER_MAX } from '../../node/p2p/dht-store.ts';
import type { P2PNetwork } from '../../node/p2p/network.ts';
import { TestPeers, until } from '../integration/p2p-peers.ts';

const VALUE = new Uint8Array([1]);
const recordOf = (peer: string, thing: number): Key => new Key(`/dht/provider/thing-${thing}/${peer}`);

describe('the records of the DHT', () => {
  let inner: Datastore;
  let store: DhtStore;
  beforeEach(async () => {
    inner = new MemoryDatastore();
    store = await DhtStore.open(inner);
  });

  async function fill(peer: string, count: number, from = 0): Promise<void> {
    for (let thing = from; thing < from + count; thing++) await store.put(recordOf(peer, thing), VALUE);
  }
  async function kept(): Promise<number> {
    let count = 0;
    for await (const _key of inner.queryKeys({ prefix: '/dht/provider' })) count++;
    return count;
  }

  it('of one peer are bounded; those of others still find room', async () => {
    await fill('a', PROVIDER_RECORDS_PER_PEER_MAX + 10);
    expect(await kept()).toBe(PROVIDER_RECORDS_PER_PEER_MAX);
    await fill('b', 10);
    expect(await kept()).toBe(PROVIDER_RECORDS_PER_PEER_MAX + 10);
  });

  it('can be refreshed at the bound, and one that goes makes room for another', async () => {
    await fill('a', PROVIDER_RECORDS_PER_PEER_MAX);
    const fresh = new Uint8Array([2]);
    await store.put(recordOf('a', 0), fresh);
    expect(await inner.get(recordOf('a', 0))).toEqual(fresh);
    await store.delete(recordOf('a', 1));
    await store.delete(recordOf('a', 1));
    await fill('a', 2, PROVIDER_RECORDS_PER_PEER_MAX);
    expect(await kept()).toBe(PROVIDER_RECORDS_PER_PEER_MAX);
  });

  it('are bounded in all', async () => {
    const peers = PROVIDER_RECORDS_MAX / PROVIDER_RECORDS_PER_PEER_MAX;
    for (let peer = 0; peer < peers; peer++) await fill(`peer-${peer}`, PROVIDER_RECORDS_PER_PEER_MAX);
    await fill('one-more', 1);
    expect(await kept()).toBe(PROVIDER_RECORDS_MAX);
  });

  it('are counted again after a restart', async () => {
    await fill('a', PROVIDER_RECORDS_PER_PEER_MAX);
    store = await DhtStore.open(inner);
    await fill('a', 1, PROVIDER_RECORDS_PER_PEER_MAX);
    expect(await kept()).toBe(PROVIDER_RECORDS_PER_PEER_MAX);
  });

  it('are announcements alone: no values', async () => {
    await store.put(new Key('/dht/record/x'), VALUE);
    expect(await inner.has(new Key('/dht/record/x'))).toBe(false);
    await store.put(new Key('/peers/x'), VALUE);
    expect(await inner.has(new Key('/peers/x'))).toBe(true);
  });

  it('have keys with the peer at their end, as the library makes them', async () => {
    const { toProviderKey } = (await import('../../node_modules/@libp2p/kad-dht/dist/src/utils.js')) as {
      toProviderKey(prefix: string, thing: string, peer: unknown): Key;
    };
    const peer = peerIdFromPrivateKey(await generateKeyPair('Ed25519'));
    for (let thing = 0; thing <= PROVIDER_RECORDS_PER_PEER_MAX; thing++) {
      await store.put(toProviderKey('/dht/provider', `thing${thing}`, peer), VALUE);
    }
    expect(await kept()).toBe(PROVIDER_RECORDS_PER_PEER_MAX);
  });
});

describe('a peer that floods the others with offers', () => {
  let peers: TestPeers;
  beforeEach(() => {
    peers = new TestPeers();
  });
  afterEach(() => peers.close());

  it('is heard no more than its share, and an honest one is heard meanwhile', async () => {
    const heard = new Map<string, number>();
    const count = (from: string): void => void heard.set(from, (heard.get(from) ?? 0) + 1);
    const events = { onMessage: async () => null, onConnected: () => {}, onDisconnected: () => {} };
    const listener = await peers.open({ name: 'listener' }, { ...events, onOffer: count });
    const join = { bootstrap: listener.addresses() };
    const [flooder, honest]: P2PNetwork[] = [await peers.open(join), await peers.open(join)];
    const FLOOD = 2_000;
    await until(() => {
      flooder!.publish({ classes: [] });
      return heard.has(flooder!.self);
    });
    for (let sent = 0; sent < FLOOD; sent++) flooder!.publish({ classes: [] });
    await until(() => {
      honest!.publish({ classes: [] });
      return heard.has(honest!.self);
    });
    expect(heard.get(flooder!.self)).toBeLessThan(FLOOD / 10);
  });
});
