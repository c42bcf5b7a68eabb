/**
 * Who may reach the listener. Two doors: the address it listens on, and the names a browser may use for it (a page
 * that rebinds its DNS name to 127.0.0.1 still sends that name as Host, and its own address as Origin).
 */
import { BlockList, isIP, isIPv6 } from 'node:net';
import { FlowmeshError } from '../../dag/errors.ts';
import { addressOf } from '../config/networks.ts';

/** The listener would be open to other machines, and nothing would ask them who they are. */
export class UnsafeListenError extends FlowmeshError {
  constructor(host: string) {
    super(
      'UNSAFE_LISTEN',
      `Refusing to serve MCP over HTTP on ${host}: it is reachable from other machines, and without authentication everyone there could run work on this peer. Have it ask who calls with --auth (FLOWMESH_AUTH=true, or auth in the mesh file), or set http.host (--http-host, FLOWMESH_HTTP_HOST) to 127.0.0.1 and let other machines in through an SSH tunnel or a proxy that authenticates.`,
      { details: { host } },
    );
  }
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/**
 * @param asksWhoCalls whether callers are asked who they are
 * @throws UnsafeListenError when they are not, and `host` is not a loopback address
 */
export function assertSafeToListen(host: string, asksWhoCalls: boolean): void {
  if (!asksWhoCalls && !isLoopback(host)) throw new UnsafeListenError(host);
}

/** What the log warns of when keys would cross a network as they are; undefined when they would not. */
export function plainTextWarning(host: string, isSafe: { tls: boolean; proxied: boolean }): string | undefined {
  if (isLoopback(host) || isSafe.tls || isSafe.proxied) return undefined;
  return 'MCP is served to other machines without TLS: whoever is on the way can read keys and tokens. Serve HTTPS (--tls-cert, --tls-key), or name the proxy that does (--trusted-proxy)';
}

/** True for `localhost` and the addresses of the loopback interface; a name that could mean anything is none. */
export function isLoopback(host: string): boolean {
  if (host.toLowerCase() === 'localhost') return true;
  return isIP(host) !== 0 && loopback.check(host, isIPv6(host) ? 'ipv6' : 'ipv4');
}

export interface HostRules {
  /** Names and addresses beside the loopback ones, without ports. */
  hosts: readonly string[];
  /** The origins whose pages may use this peer, beside its own. Absent: those of `hosts` and of this machine. */
  origins?: readonly string[] | undefined;
}

export interface HostHeaders {
  /** Each of the names by which a client, or its proxy, asked for this peer. */
  hosts: readonly string[];
  /** How the client reached this peer, or its proxy. */
  scheme: 'http' | 'https';
  origin: string | undefined;
  /** The address of this machine at which the request came in: no name that a page could have rebound. */
  localAddress?: string | undefined;
}

/**
 * Checks the Host and Origin headers of a request.
 *
 * @returns what gives the sentence for the client that is refused, or undefined
 */
export function createHostCheck({ hosts: allowed, origins }: HostRules): (asked: HostHeaders) => string | undefined {
  const names = new Set(allowed.map((name) => name.toLowerCase()));
  const listed = origins && new Set(origins.map((origin) => origin.toLowerCase()));
  const isAllowed = (name: string | undefined, here: string | undefined) =>
    name !== undefined && (names.has(name) || isLoopback(name) || (here !== undefined && isSameAddress(name, here)));
  return ({ hosts, scheme, origin, localAddress }) => {
    const wrong = hosts.find((host) => !isAllowed(hostName(host), localAddress));
    if (wrong !== undefined) {
      return `Host "${wrong}" is not served here. Use the address this peer listens on, such as 127.0.0.1, or add the name to the allowed hosts (http.allowed_hosts, --allowed-host).`;
    }
    // Only browsers send Origin; a missing one is every other client.
    if (origin === undefined || listed?.has(origin.toLowerCase())) return undefined;
    if (hosts.some((host) => origin.toLowerCase() === `${scheme}://${host}`.toLowerCase())) return undefined;
    if (listed === undefined && isAllowed(originName(origin), localAddress)) return undefined;
    return `Origin "${origin}" may not use this peer. ${listed === undefined ? PAGES_OF_HOSTS : PAGES_LISTED}`;
  };
}

const PAGES_OF_HOSTS =
  'Pages of this machine may; others must be added to the allowed hosts (http.allowed_hosts) or to the origins (http.cors_origins, --cors-origin).';
const PAGES_LISTED = 'Its own pages and those of http.cors_origins (--cors-origin) may.';

function isSameAddress(name: string, here: string): boolean {
  const address = addressOf(name);
  return address !== undefined && String(address) === String(addressOf(here));
}

/** `[::1]:7601` is `::1`, `LOCALHOST:7601` is `localhost`. */
function hostName(host: string | undefined): string | undefined {
  const parts = /^(?:\[([^\]]+)\]|([^:]+))(?::\d+)?$/.exec(host ?? '');
  return (parts?.[1] ?? parts?.[2])?.toLowerCase();
}

/** The Origin `null` (sandboxed pages, local files) names nobody. */
function originName(origin: string): string | undefined {
  return URL.canParse(origin) ? hostName(new URL(origin).host) : undefined;
}
