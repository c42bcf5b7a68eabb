/**
 * Asks the DHT which peers offer what no connected worker does, and dials them. One look-up asks many peers, so only a
 * few run at a time, the others wait their turn, and an answer is good for PROVIDERS_CACHE_MS.
 */
import {
  PROVIDERS_CACHE_MS,
  PROVIDERS_CACHED_MAX,
  PROVIDERS_DEADLINE_MS,
  PROVIDERS_LOOK_UPS_MAX,
  PROVIDERS_MAX,
} from '../limits.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import type { Clock, Log, Network } from '../ports.ts';
import type { FeedWriter } from '../storage/journal.ts';

export class ProviderLookUps {
  readonly #clock: Clock;
  readonly #network: Network;
  readonly #peers: PeerTable;
  readonly #log: Log;
  readonly #writer: FeedWriter;
  /** An answer that led to no provider is good for this long only. */
  readonly #againMs: number;
  /** When each capability was last looked up (monotonic), the oldest first. */
  readonly #lookedUp = new Map<string, number>();
  /** Capabilities whose look-up has not begun, the first to be wanted first. */
  readonly #wanted = new Set<string>();
  #underWay = 0;

  constructor(
    components: { clock: Clock; network: Network; peers: PeerTable; log: Log; writer: FeedWriter },
    options: { againMs: number },
  ) {
    this.#clock = components.clock;
    this.#network = components.network;
    this.#peers = components.peers;
    this.#log = components.log;
    this.#againMs = options.againMs;
    this.#writer = components.writer;
  }

  /** @param capabilities as `capabilitiesToLookUp` gives them; those looked up lately are left out */
  wantAll(capabilities: readonly string[]): void {
    for (const capability of capabilities) this.#want(capability);
  }

  #want(capability: string): void {
    const last = this.#lookedUp.get(capability);
    if (last !== undefined && this.#clock.now() - last < PROVIDERS_CACHE_MS) return;
    if (this.#wanted.size >= PROVIDERS_CACHED_MAX) return; // a later dispatch wants it again
    this.#wanted.add(capability);
    this.#next();
  }

  #next(): void {
    for (const capability of this.#wanted) {
      if (this.#underWay >= PROVIDERS_LOOK_UPS_MAX) return;
      this.#wanted.delete(capability);
      this.#lookUp(capability);
    }
  }

  #lookUp(capability: string): void {
    this.#lookedUp.delete(capability);
    this.#lookedUp.set(capability, this.#clock.now());
    if (this.#lookedUp.size > PROVIDERS_CACHED_MAX) this.#lookedUp.delete(this.#lookedUp.keys().next().value!);
    this.#underWay++;
    this.#network
      .findProviders(capability, PROVIDERS_MAX, PROVIDERS_DEADLINE_MS)
      .then(
        (peers) => {
          // No provider may only mean that the routing table is young: this peer asks again soon.
          if (peers.length === 0) this.#forgetSoon(capability);
          for (const peer of peers) this.#meet(peer, capability);
        },
        (error: unknown) => this.#log.debug({ capability, error }, 'the DHT did not answer'), // P6
      )
      .finally(() => {
        this.#underWay--;
        this.#next();
      });
  }

  /** Lets an answer expire in `againMs`. Not at once: the DHT keeps naming a provider that cannot be reached. */
  #forgetSoon(capability: string): void {
    if (!this.#lookedUp.has(capability)) return;
    this.#lookedUp.set(capability, this.#clock.now() - PROVIDERS_CACHE_MS + this.#againMs);
  }

  #meet(peer: string, capability: string): void {
    if (peer === this.#network.self || this.#peers.find(peer)?.connected === true) return;
    this.#peers.entry(peer, this.#clock.now()).found_by = 'dht';
    this.#network.connect(peer, []).then(
      () => this.#writer.dispatchSoon(),
      (error: unknown) => {
        this.#forgetSoon(capability);
        this.#log.debug({ peer, error }, 'a provider that the DHT named cannot be reached'); // P6
      },
    );
  }
}
