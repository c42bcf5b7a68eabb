/**
 * Where a request comes from and what it was sent to, as far as this peer may believe it: behind a proxy, the proxy alone
 * knows, and says it in `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
 *
 * 1. These headers are believed of proxies that are trusted, and of nobody else: everybody can send them.
 * 2. Of a list of addresses the last one is what the nearest proxy saw. It is gone on to the one before as long as the one
 *    at hand is a trusted proxy, too: what a client wrote at the beginning of the list is not reached.
 * 3. `Forwarded` (RFC 7239) is never read: proxies that write the others let it through as the client sent it.
 */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { addressOf, isWithin, type Network, networkOf } from '../config/networks.ts';

export interface Arrival {
  /** The address of the client; of the connection when it cannot be told. */
  client_address: string;
  /** Each `Host` of the request, then the one that a trusted proxy was asked for. */
  hosts: string[];
  /** How the client reached this peer or its proxy. */
  scheme: 'http' | 'https';
}

const UNKNOWN = 'unknown';
/** Of requests that are being served. */
const clientAddresses = new WeakMap<IncomingMessage, string>();

/**
 * Notes and returns what is known of each request.
 *
 * @param trusted addresses and networks of proxies
 */
export function createArrivals(trusted: readonly string[]): (request: IncomingMessage) => Arrival {
  const networks = trusted.map(networkOf).filter((network) => network !== undefined);
  return (request) => {
    const arrival = arrivalOf(request, networks);
    clientAddresses.set(request, arrival.client_address);
    return arrival;
  };
}

/** For limits and the trail: the address of the client that made a request of this peer's listener. */
export function clientAddressOf(request: IncomingMessage): string {
  return clientAddresses.get(request) ?? UNKNOWN;
}

function arrivalOf(request: IncomingMessage, trusted: Network[]): Arrival {
  const { remoteAddress = UNKNOWN, encrypted } = request.socket as Partial<TLSSocket>;
  const scheme = encrypted ? 'https' : 'http';
  // All of them: who passes a request on may go by another one than who reads the first.
  const hosts = request.headersDistinct['host'] ?? [''];
  const proxy = addressOf(remoteAddress);
  if (!isTrusted(proxy, trusted)) return { client_address: String(proxy ?? remoteAddress), hosts, scheme };

  const forwardedHost = lastOf(request.headers['x-forwarded-host']);
  const forwardedScheme = lastOf(request.headers['x-forwarded-proto'])?.toLowerCase();
  return {
    client_address: String(clientBehind(proxy, listOf(request.headers['x-forwarded-for']), trusted)),
    hosts: forwardedHost === undefined ? hosts : [...hosts, forwardedHost],
    scheme: forwardedScheme === 'https' || forwardedScheme === 'http' ? forwardedScheme : scheme,
  };
}

type Address = NonNullable<ReturnType<typeof addressOf>>;

function clientBehind(proxy: Address, forwardedFor: string[], trusted: Network[]): Address {
  let client = proxy;
  for (const hop of forwardedFor.toReversed()) {
    const address = addressOf(withoutPort(hop));
    // A proxy that hides whom it serves ("unknown") is what is known.
    if (address === undefined) return client;
    client = address;
    if (!isTrusted(address, trusted)) return client;
  }
  return client;
}

function isTrusted(address: Address | undefined, trusted: Network[]): address is Address {
  return address !== undefined && trusted.some((network) => isWithin(address, network));
}

/** Some proxies add it: `10.0.0.7:49152`, `[fd00::7]:49152`. */
function withoutPort(hop: string): string {
  return /^\[([^\]]+)\](?::\d+)?$/.exec(hop)?.[1] ?? /^([\d.]+):\d+$/.exec(hop)?.[1] ?? hop;
}

function listOf(header: string | string[] | undefined): string[] {
  return [header ?? []]
    .flat()
    .flatMap((line) => line.split(','))
    .map((each) => each.trim())
    .filter((each) => each !== '');
}

/** Of several values the one that the nearest proxy wrote. */
function lastOf(header: string | string[] | undefined): string | undefined {
  return listOf(header).at(-1);
}
