/**
 * Which peer a text means: an id, a name, the short id that a table shows (`12D3KooW…a1B2c3D4`, or with three dots), or
 * the end of an id. A whole id wins over everything else that matches, so that no peer can draw calls for another one
 * to itself by the name that it gives itself.
 */
import { PEER_ID } from '../../scheduler/membership/peer-table.ts';
import type { MeshContext } from '../definition.ts';
import { AmbiguousPeerError, PeerNotFoundError } from '../errors.ts';
import { viewsById } from './view.ts';

/** The shortest end of an id that is taken for the id. */
const ID_END_CHARS_MIN = 4;
const SHORT_ID = /^(\w*)(?:…|\.{2,3})(\w+)$/;

interface NamedPeer {
  peer_id: string;
  name: string | null;
  isPresent: boolean;
}

/**
 * @returns the id of the peer; for a whole id, even of a peer that is not known here
 * @throws AmbiguousPeerError, PeerNotFoundError
 */
export function peerIdOf(text: string, context: MeshContext): string {
  const known = knownPeers(context);
  if (known.some(({ peer_id }) => peer_id === text)) return text;
  const matching = known.filter(({ peer_id, name }) => name === text || isShortFor(text, peer_id));
  const present = matching.filter(({ isPresent }) => isPresent);
  // Of two peers with a name, the connected one is meant: a peer that was set up anew has kept its old name.
  const meant = present.length === 1 ? present : matching;
  if (meant.length > 1) throw new AmbiguousPeerError(text, meant);
  if (meant[0] !== undefined) return meant[0].peer_id;
  if (PEER_ID.test(text)) return text;
  throw new PeerNotFoundError(text);
}

function knownPeers(context: MeshContext): NamedPeer[] {
  const views = viewsById(context);
  const others = context.peers.list().filter(({ peer_id }) => peer_id !== context.self);
  return [
    { peer_id: context.self, name: context.scheduler.name, isPresent: true },
    ...others.map(({ peer_id, name, status }) => ({
      peer_id,
      name: name ?? views.get(peer_id)?.state?.name ?? null,
      isPresent: status === 'connected',
    })),
  ];
}

function isShortFor(text: string, peerId: string): boolean {
  const [, start = '', end = text] = SHORT_ID.exec(text) ?? [];
  return end.length >= ID_END_CHARS_MIN && peerId.startsWith(start) && peerId.endsWith(end);
}
