/**
 * The records of the DHT that this peer keeps for others, bounded: each peer may announce so many things, and there
 * are so many in all, so that no member fills the disks of the others. A record beyond is dropped, as if it had not
 * arrived: the DHT is a hint (P6), and the next announcement may find room. Records expire after two days.
 */
import type { AbortOptions } from '@libp2p/interface';
import { BaseDatastore } from 'datastore-core';
import type { Datastore, KeyQuery, Pair, Query } from 'interface-datastore';
import type { Key } from 'interface-datastore/key';

/** Provider records of one peer: twice what it may announce, as those withdrawn stay until they expire. */
export const PROVIDER_RECORDS_PER_PEER_MAX = 512;
/** Provider records of all peers. */
export const PROVIDER_RECORDS_MAX = 65_536;

const PREFIX = '/dht';
/** Of @libp2p/kad-dht: prefix/provider/<hash>/<peer>. */
const PROVIDERS = `${PREFIX}/provider/`;
/** flowmesh puts no values into its DHT, so nobody else has a reason to. */
const VALUES = `${PREFIX}/record/`;

/** The rest of the components stays as it is. */
export function withDhtStore<T extends { datastore: Datastore }>(components: T, store: DhtStore): T {
  return new Proxy(components, {
    get: (target, key) => (key === 'datastore' ? store : Reflect.get(target, key, target)),
  });
}

export class DhtStore extends BaseDatastore {
  readonly #inner: Datastore;
  readonly #counts: Map<string, number>;
  #total: number;

  private constructor(inner: Datastore, counts: Map<string, number>) {
    super();
    this.#inner = inner;
    this.#counts = counts;
    this.#total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  }

  static async open(inner: Datastore): Promise<DhtStore> {
    const counts = new Map<string, number>();
    for await (const key of inner.queryKeys({ prefix: PROVIDERS })) {
      const peer = providerIn(key)!;
      counts.set(peer, (counts.get(peer) ?? 0) + 1);
    }
    return new DhtStore(inner, counts);
  }

  override async put(key: Key, value: Uint8Array, options?: AbortOptions): Promise<Key> {
    if (key.toString().startsWith(VALUES)) return key;
    const peer = providerIn(key);
    if (peer !== undefined && !(await this.#inner.has(key, options))) {
      const count = this.#counts.get(peer) ?? 0;
      if (count >= PROVIDER_RECORDS_PER_PEER_MAX || this.#total >= PROVIDER_RECORDS_MAX) return key;
      this.#counts.set(peer, count + 1);
      this.#total++;
    }
    return this.#inner.put(key, value, options);
  }

  override async delete(key: Key, options?: AbortOptions): Promise<void> {
    const peer = providerIn(key);
    if (peer !== undefined && (await this.#inner.has(key, options))) {
      const count = this.#counts.get(peer)! - 1;
      if (count > 0) this.#counts.set(peer, count);
      else this.#counts.delete(peer);
      this.#total--;
    }
    await this.#inner.delete(key, options);
  }

  override get(key: Key, options?: AbortOptions): Uint8Array | Promise<Uint8Array> {
    return this.#inner.get(key, options);
  }

  override has(key: Key, options?: AbortOptions): boolean | Promise<boolean> {
    return this.#inner.has(key, options);
  }

  override async *_all(query: Query, options?: AbortOptions): AsyncGenerator<Pair> {
    yield* this.#inner.query(query, options);
  }

  override async *_allKeys(query: KeyQuery, options?: AbortOptions): AsyncGenerator<Key> {
    yield* this.#inner.queryKeys(query, options);
  }
}

/** Whose record it is; undefined for another kind of key. */
function providerIn(key: Key): string | undefined {
  return key.toString().startsWith(PROVIDERS) ? key.name() : undefined;
}
