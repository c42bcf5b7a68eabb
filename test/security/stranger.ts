/** A peer without a place in the mesh: what it says in the admission, and whether it says anything, is the test's. */
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { Connection, PrivateKey } from '@libp2p/interface';
import { noise } from '@libp2p/noise';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import { type Answer, decisionSchema, type Offer, offerSchema } from '../../node/membership/messages.ts';
import { ADMISSION_PROTOCOL, Lines } from '../../node/p2p/admission.ts';
import type { Target } from './member.ts';

/** What it does between the encryption's handshake and the muxer. */
export type Exchange = (lines: Lines, sponsor: string) => Promise<void>;

export class Stranger {
  readonly identity: PrivateKey;
  readonly self: string;
  readonly #nodes: Libp2p[] = [];

  constructor(identity: PrivateKey) {
    this.identity = identity;
    this.self = peerIdFromPrivateKey(identity).toString();
  }

  static async make(): Promise<Stranger> {
    return new Stranger(await generateKeyPair('Ed25519'));
  }

  /** A connection on which the exchange went as it says, whatever the other side thinks of it. */
  async dial(to: Target, exchange: Exchange): Promise<Connection> {
    const node = await createLibp2p({
      privateKey: this.identity,
      addresses: { listen: [] },
      transports: [tcp()],
      streamMuxers: [yamux()],
      connectionGater: { denyDialMultiaddr: () => false },
      connectionEncrypters: [
        (components) => ({
          protocol: ADMISSION_PROTOCOL,
          secureInbound: () => Promise.reject(new Error('it listens nowhere')),
          async secureOutbound(connection, how) {
            const secured = await noise()(components).secureOutbound(connection, how);
            const lines = new Lines(secured.connection, how?.signal);
            await exchange(lines, secured.remotePeer.toString());
            return { ...secured, connection: lines.unwrap() };
          },
        }),
      ],
    });
    this.#nodes.push(node);
    return await node.dial(multiaddr(to.addresses()[0]!));
  }

  /** Says this, and hears what is made of it. @returns the code of the refusal; `admitted`, or `closed` without a word */
  async says(to: Target, answer: (offer: Offer, sponsor: string) => Answer | object): Promise<string> {
    let heard = 'closed';
    await this.dial(to, async (lines, sponsor) => {
      await lines.write(answer(await lines.read(offerSchema), sponsor) as Answer);
      const decision = await lines.read(decisionSchema);
      heard = decision.admitted ? 'admitted' : decision.error.code;
      throw new Error('it has heard enough');
    }).catch(() => {}); // The end of the connection; what counts was heard.
    return heard;
  }

  async close(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.stop()));
  }
}
