/**
 * Work finds idle workers. When a slot is free here, this peer claims tasks from neighbours whose beats show waiting
 * work. Work here that no connected worker has a slot for is offered by gossip, which also reaches peers that are not
 * connected. An offer only says whom to ask (P6).
 */
import type { JsonObject } from '../../dag/errors.ts';
import { CLAIM_INTERVAL_MS, REQUEST_DEADLINE_MS } from '../limits.ts';
import type { AutoDial } from '../membership/auto-dial.ts';
import type { BeatListener } from '../membership/heartbeat.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import { type Beat, type OfferClass, offerSchema, type PeerState } from '../messages.ts';
import type { Clock, Log, Network } from '../ports.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';

const REMEMBERED_CLAIMS_MAX = 1_024;

interface OffersParts {
  clock: Clock;
  network: Network;
  peers: PeerTable;
  pool: WorkerPool;
  dial: AutoDial;
  log: Log;
  /** This peer's state, as its beats tell it. */
  self: { describe(reader: string | null): PeerState };
  options: { offer_interval_ms: number };
}

export class Offers implements BeatListener {
  readonly #parts: OffersParts;
  #cancelOffer: (() => void) | null = null;
  /** Monotonic: when the last offer was published. */
  #lastOffer = Number.NEGATIVE_INFINITY;
  #claimDeferred = false;
  /** When each owner was last asked for work (monotonic). */
  readonly #claimed = new Map<string, number>();
  #running = false;

  constructor(parts: OffersParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#running = true;
  }

  stop(): void {
    this.#running = false;
    this.#cancelOffer?.();
    this.#cancelOffer = null;
  }

  /** A slot is free here: asks every connected peer whose last beat showed waiting work. */
  claimSoon(): void {
    if (this.#claimDeferred) return;
    this.#claimDeferred = true;
    this.#parts.clock.defer(() => {
      this.#claimDeferred = false;
      if (!this.#running) return;
      for (const { peer_id, state } of this.#parts.peers.connected()) {
        if (state !== null && state.waiting.length > 0) this.#claim(peer_id, state.waiting, 'connected');
      }
    });
  }

  onBeat(peer: string, { state: { waiting } }: Beat): void {
    if (waiting.length > 0) this.#claim(peer, waiting, 'connected');
  }

  #claim(owner: string, waiting: readonly OfferClass[], found_by: 'connected' | 'offer'): void {
    const { clock, network, peers, pool, log, self } = this.#parts;
    if (peers.find(owner)?.leaving === true) return;
    if (!waiting.some((each) => pool.couldRun(each, owner))) return;
    const now = clock.now();
    if (now - (this.#claimed.get(owner) ?? Number.NEGATIVE_INFINITY) < CLAIM_INTERVAL_MS) return;
    this.#claimed.delete(owner);
    this.#claimed.set(owner, now);
    if (this.#claimed.size > REMEMBERED_CLAIMS_MAX) this.#claimed.delete(this.#claimed.keys().next().value!);
    const claim = { found_by, state: self.describe(owner) } as unknown as JsonObject;
    network.request(owner, 'claim', claim, REQUEST_DEADLINE_MS).catch((error: unknown) => {
      log.debug({ owner, error }, 'a claim was not answered'); // the next beat shows the free slot all the same (P6)
    });
  }

  /** No worker has a slot for some tasks: offers what waits by gossip every `offer_interval_ms` while anything does. */
  offerSoon(): void {
    if (this.#cancelOffer !== null || !this.#running) return;
    const { clock, options } = this.#parts;
    const wait = Math.max(this.#lastOffer + options.offer_interval_ms - clock.now(), 0);
    this.#cancelOffer = clock.after(wait, () => {
      this.#cancelOffer = null;
      const { network, self } = this.#parts;
      const { waiting, addresses } = self.describe(null);
      if (waiting.length === 0) return;
      this.#lastOffer = clock.now();
      network.publish({ owner: network.self, addresses, classes: waiting } as unknown as JsonObject);
      this.offerSoon();
    });
  }

  /** P6, P9: an offer is not believed, only a reason to ask its author, about whose own work it must be. */
  onOffer(from: string, message: unknown): void {
    const { network, peers, pool, dial, log } = this.#parts;
    const parsed = offerSchema.safeParse(message);
    if (!parsed.success) {
      log.debug({ problems: parsed.error.issues }, 'a gossiped offer cannot be read');
      return;
    }
    const { owner, addresses, classes } = parsed.data;
    if (owner !== from || owner === network.self || !classes.some((each) => pool.couldRun(each, owner))) return;
    if (peers.find(owner)?.connected === true) {
      this.#claim(owner, classes, 'connected');
      return;
    }
    if (!dial.mayDial(owner)) return;
    network.connect(owner, addresses).then(
      () => this.#claim(owner, classes, 'offer'),
      (error: unknown) => log.debug({ owner, error }, 'the owner of an offer cannot be reached'),
    );
  }
}
