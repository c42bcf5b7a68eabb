/** Offers of waiting work, gossiped to the whole mesh. A hint: anything may be lost, late or repeated (P6). */

import type { GossipSub, Message } from '@libp2p/gossipsub';
import { Packr, Unpackr } from 'msgpackr/pack'; // as in frames.ts
import type { JsonObject } from '../../dag/errors.ts';
import type { Log } from '../../scheduler/ports.ts';
import { reasonOf } from './errors.ts';
import { OFFER_BYTES_MAX, offersTopic } from './host.ts';

const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

export class OfferGossip {
  readonly #pubsub: GossipSub | undefined;
  readonly #topic: string;
  readonly #log: Log;

  /** @param pubsub undefined when gossip is switched off: offers then go nowhere */
  constructor(pubsub: GossipSub | undefined, mesh: string, log: Log) {
    this.#pubsub = pubsub;
    this.#topic = offersTopic(mesh);
    this.#log = log;
  }

  /** @param onOffer `from` is the author, whose signature was checked (P9) */
  listen(onOffer: (from: string, offer: unknown) => void): void {
    this.#pubsub?.addEventListener('message', (event) => this.#read(event.detail, onOffer));
  }

  publish(offer: JsonObject): void {
    if (this.#pubsub === undefined) return;
    const bytes = packr.pack(offer);
    if (bytes.byteLength > OFFER_BYTES_MAX) {
      this.#log.warn({ bytes: bytes.byteLength, maximum_bytes: OFFER_BYTES_MAX }, 'an offer is too large to gossip');
      return;
    }
    this.#pubsub.publish(this.#topic, bytes).catch((error) => {
      // Most often nobody is subscribed yet. The offer is repeated while its work waits.
      this.#log.debug({ reason: reasonOf(error) }, 'an offer was not gossiped');
    });
  }

  #read(message: Message, onOffer: (from: string, offer: unknown) => void): void {
    if (message.topic !== this.#topic || message.type !== 'signed') return;
    let offer: unknown;
    try {
      offer = unpackr.unpack(message.data);
    } catch (error) {
      this.#log.debug({ from: message.from.toString(), reason: reasonOf(error) }, 'an offer is not readable');
      return;
    }
    onOffer(message.from.toString(), offer);
  }
}
