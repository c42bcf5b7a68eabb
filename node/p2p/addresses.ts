/** Addresses and names of peers, as text and as libp2p has them. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { Connection, PeerId } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import ipaddr from 'ipaddr.js';
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
    const end = target.getComponents().at(-1);
    const named = end?.name === 'p2p' ? end.value : undefined;
    if (named === undefined) return [target.encapsulate(`/p2p/${peer}`)];
    return named === peer ? [target] : [];
  } catch {
    return []; // A peer was told a bad address by another one: the others are tried.
  }
}

/**
 * Where a peer was reached directly, whoever opened the stream. An inbound connection's address has the port the other
 * side dialled from, where nobody listens.
 */
export function dialableOf({ direction, direct, remoteAddr }: Connection): string[] {
  return direction === 'outbound' && direct ? [remoteAddr.toString()] : [];
}

/** Where a peer listens decides which addresses it may dial because others name them. */
export interface DialRules {
  /** Its own PeerId. */
  self: string;
  /** Multiaddrs that it listens on. */
  listen: readonly string[];
  /** Members relay for each other here: addresses through a relay may be dialled. */
  relay: boolean;
  /** Where it can be reached itself, asked at each look. */
  own: () => readonly string[];
}

/** Addresses that users gave, at once; the oldest are forgotten first. */
const GIVEN_MAX = 1_024;
const CIRCUIT = 'p2p-circuit';
const HOSTS = new Set(['ip4', 'ip6', 'dns', 'dns4', 'dns6']);
/** Of ipaddr.js: where there is no other host, or not the same one for everybody. */
const NEVER = new Set(['unspecified', 'broadcast', 'multicast', 'linkLocal']);

/**
 * Decides whether an address that others told may be dialled: peers name each other's addresses, and one that lies
 * must not make others knock on the doors of their own machine or network equipment.
 *
 * - TCP at an address or a name, or through one relay where members relay; nothing else.
 * - Loopback only while this peer listens on loopback only, and then nothing else.
 * - Never unspecified, broadcast, multicast or link-local addresses, nor where this peer itself listens.
 *
 * What a user named by hand (`give`) may be dialled whatever its kind.
 */
export class DialPolicy {
  readonly #rules: DialRules;
  readonly #loopbackOnly: boolean;
  readonly #given = new Set<string>();

  constructor(rules: DialRules) {
    this.#rules = rules;
    this.#loopbackOnly = rules.listen.every((address) => isLoopbackHost(hostOf(multiaddr(address)) ?? ''));
  }

  /** A user named this address: a bootstrap address, or one to connect to. */
  give(address: string): void {
    const target = doorOf(parseAddress(address));
    if (target === undefined) return;
    if (this.#given.size >= GIVEN_MAX) this.#given.delete(this.#given.values().next().value!);
    this.#given.add(target);
  }

  /** A name is taken as it is; `denies` looks behind it. */
  mayDial(address: string | Multiaddr): boolean {
    try {
      const target = typeof address === 'string' ? multiaddr(address) : address;
      return this.#mayReach(target) && this.#mayKnock(target);
    } catch {
      return false; // Not an address at all.
    }
  }

  /** Whether an address of a peer is worth remembering. Its own are what it tells others. */
  keeps(peer: string, address: Multiaddr): boolean {
    return peer === this.#rules.self || this.mayDial(address);
  }

  /** The last check before a dial: also what a name stands for right now. */
  async denies(target: Multiaddr): Promise<boolean> {
    if (!this.mayDial(target)) return true;
    const host = hostOf(target);
    if (host === undefined || isIP(host) !== 0 || this.#isGiven(target)) return false;
    try {
      const found = await lookup(host, { all: true });
      return found.some(({ address }) => !this.#mayBe(address));
    } catch {
      return false; // A name that stands for nothing is dialled in vain, and the error says so.
    }
  }

  /** Whether the way there is one: TCP, or TCP to a relay and on from it. */
  #mayReach(target: Multiaddr): boolean {
    const names = target.getComponents().map(({ name }) => name);
    const [host = '', transport, ...rest] = names;
    if (!HOSTS.has(host) || transport !== 'tcp') return false;
    const shape = rest.join('/');
    if (shape === '' || shape === 'p2p') return peerIn(target) !== this.#rules.self;
    if (shape !== `p2p/${CIRCUIT}` && shape !== `p2p/${CIRCUIT}/p2p`) return false;
    const peers = target.getComponents().flatMap(({ name, value }) => (name === 'p2p' ? [value] : []));
    return this.#rules.relay && !peers.includes(this.#rules.self) && new Set(peers).size === peers.length;
  }

  /** Whether the first host on the way may be connected to. */
  #mayKnock(target: Multiaddr): boolean {
    if (this.#isGiven(target)) return true;
    const host = hostOf(target)!;
    const door = doorOf(target);
    if (
      door === undefined ||
      this.#rules.own().some((own) => !own.includes(`/${CIRCUIT}`) && own.startsWith(`${door}/`))
    )
      return false;
    return isIP(host) === 0 ? !this.#loopbackOnly && !isLoopbackHost(host) : this.#mayBe(host);
  }

  #mayBe(host: string): boolean {
    if (isLoopbackHost(host)) return this.#loopbackOnly;
    return !this.#loopbackOnly && ipaddr.isValid(host) && !NEVER.has(ipaddr.process(host).range());
  }

  #isGiven(target: Multiaddr): boolean {
    const door = doorOf(target);
    return door !== undefined && this.#given.has(door);
  }
}

/** Goes through another peer. */
export function isRelayed(address: string | Multiaddr): boolean {
  return address.toString().includes(`/${CIRCUIT}`);
}

/** The peer that a connection or an address goes through. */
export function relayIn(address: string | Multiaddr): string | null {
  const [way] = address.toString().split(`/${CIRCUIT}`);
  return isRelayed(address) ? (peerIn(multiaddr(way!)) ?? null) : null;
}

/**
 * Of the addresses of this peer, those that others can use: where there are others, loopback ones are of this machine
 * alone.
 */
export function announced(addresses: Multiaddr[]): Multiaddr[] {
  const elsewhere = addresses.filter((address) => !isLoopbackHost(hostOf(address) ?? ''));
  return elsewhere.length > 0 ? elsewhere : addresses;
}

/** `/ip4/…/tcp/…` at the start of an address: the host that is connected to, and its port. */
export function doorOf(address: Multiaddr): string | undefined {
  const [host, port] = address.getComponents();
  if (host?.value === undefined || port?.value === undefined || Number(port.value) === 0) return undefined;
  return `/${host.name}/${host.value}/${port.name}/${port.value}`;
}

function hostOf(address: Multiaddr): string | undefined {
  return address.getComponents()[0]?.value;
}

/** True for what only this machine can reach, also written as an IPv6 address. */
function isLoopbackHost(host: string): boolean {
  if (ipaddr.isValid(host)) return ipaddr.process(host).range() === 'loopback';
  return /^(.+\.)?localhost\.?$/i.test(host);
}

/** Public IPv6 addresses (2000::/3), of which one machine may use all of a network: 64 bits of them are one source. */
const PUBLIC_IP6 = /^[23][0-9a-f]{3}:/i;
const IP6_GROUPS = 8;

/** Whose connections are counted together. */
export function sourceOf(address: Multiaddr): string {
  const [host] = address.getComponents();
  const value = host?.value ?? address.toString();
  if (host?.name !== 'ip6' || !PUBLIC_IP6.test(value)) return value;
  const [head, tail] = value.split('::').map((part) => part.split(':')) as [string[], string[]?];
  const zeros = Array.from({ length: IP6_GROUPS - head.length - (tail?.length ?? 0) }, () => '0');
  return [...head, ...zeros, ...(tail ?? [])].slice(0, IP6_GROUPS / 2).join(':');
}
