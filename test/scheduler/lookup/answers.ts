/** What tests of look-ups ask hand-made peers, and what those answer. */
import type { JsonObject } from '../../../dag/errors.ts';
import type { HandPeer } from '../hand-peer.ts';

export const alias = (id: string) => ({ kind: 'task' as const, id });

/** An answer to `locate`: that peer has the record. */
export const found = (peer_id: string, over: JsonObject = {}) => ({
  peer_id,
  addresses: [],
  status: 'running',
  content_hash: 'h',
  ...over,
});

/** The messages of a method that a peer was sent. */
export const asked = (peer: HandPeer, method: string) => peer.messages.filter((message) => message.method === method);
