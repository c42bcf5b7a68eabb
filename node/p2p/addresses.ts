/** Addresses and names of peers, as text and as libp2p has them. */
import type { Connection, PeerId } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { InvalidAddressError, InvalidPeerIdError, reasonOf } from './errors.ts';

/** @throws InvalidAddressError */
export function parseAddress(address: string): Multiaddr {
  try {
    return multiaddr(address);
  } catch (error) {
    throw new InvalidAddressError(address, reasonOf(error), error);
  }
}

/** @throws InvalidPeerIdError */
export function parsePeerId(peer: string): PeerId {
  try {
    return peerIdFromString(peer);
  } catch (error) {
    throw new InvalidPeerIdError(peer, error);
  }
}

/** The PeerId an address ends with, if it names one. */
export function peerIn(address: Multiaddr): string | undefined {
  return address.getComponents().findLast((component) => component.name === 'p2p')?.value;
}

/** An address as one to dial a peer at; none when it is of another peer or not readable. */
export function dialable(address: string, peer: string): Multiaddr[] {
  try {
    const target = multiaddr(address);
    const named = peerIn(target);
    if (named === undefined) return [target.encapsulate(`/p2p/${peer}`)];
    return named === peer ? [target] : [];
  } catch {
    return []; // A peer was told a bad address by another one: the others are tried.
  }
}

/** An inbound connection's address has the port the other side dialled from, where nobody listens. */
export function dialableOf(connection: Connection, how: 'inbound' | 'outbound'): string[] {
  return how === 'outbound' && connection.direction === 'outbound' ? [connection.remoteAddr.toString()] : [];
}
