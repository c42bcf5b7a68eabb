/**
 * Where the `http` action may connect to. The check is part of opening the connection, behind the name's resolution
 * and at every redirect, so that neither a redirect nor a name that resolves differently the second time gets around
 * it.
 */
import { lookup } from 'node:dns';
import type { LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import { buildConnector } from 'undici';
import { ActionNotAllowedError } from './errors.ts';
import { HTTP_CONNECT_TIMEOUT_MS } from './limits.ts';

/** The peer's `http_action`: see `node/config/settings.ts`. */
export interface HttpPolicy {
  private: boolean;
  /** Host names or addresses; `*.example.org` is every name below it; empty: every public host. */
  allow: string[];
}

/** The one block of IPv6 that is given out for public use. */
const GLOBAL_UNICAST_IPV6 = ipaddr.IPv6.parseCIDR('2000::/3');
/** A public address by its number, but Azure's hosts answer their own machines on it. */
const METADATA_ADDRESSES = new Set(['168.63.129.16']);
/** NAT64: the last four bytes are an IPv4 address. */
const NAT64_RANGE = 'rfc6052';

/** False for loopback, private, link-local, unique-local, metadata, multicast, reserved and unreadable addresses. */
export function isPublicAddress(text: string): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.process(text);
  if (address instanceof ipaddr.IPv4) return address.range() === 'unicast' && !METADATA_ADDRESSES.has(String(address));
  if (address.range() === NAT64_RANGE) return isPublicAddress(address.toByteArray().slice(12).join('.'));
  return address.range() === 'unicast' && address.match(GLOBAL_UNICAST_IPV6);
}

/** Opens the connections of an undici Agent; what `policy` refuses fails with an ActionNotAllowedError. */
export function guardedConnector(policy: HttpPolicy): buildConnector.connector {
  const connect = buildConnector({ lookup: guardedLookup(policy), timeout: HTTP_CONNECT_TIMEOUT_MS } as object);
  return (options, callback) => {
    const refusal = refusedHost(options.hostname, policy);
    if (refusal !== null) callback(refusal, null);
    else connect(options, callback);
  };
}

/** A host as policies name it. */
export function hostNamed(hostname: string): string {
  return hostname
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '')
    .toLowerCase();
}

/** Checked before the name is resolved; an address is checked here too, because it never is. */
function refusedHost(hostname: string, policy: HttpPolicy): ActionNotAllowedError | null {
  const host = hostNamed(hostname);
  if (policy.allow.length > 0 && !policy.allow.some((entry) => matches(entry.toLowerCase(), host))) {
    return new ActionNotAllowedError(
      `this peer's http steps may not reach ${host}, only ${policy.allow.join(', ')}; add it with --allow-http ${host} (setting http_action.allow)`,
      { host },
    );
  }
  return ipaddr.isValid(host) ? refusedAddress(host, host, policy) : null;
}

function matches(entry: string, host: string): boolean {
  return entry.startsWith('*.') ? host.endsWith(entry.slice(1)) : entry === host;
}

function refusedAddress(host: string, address: string, policy: HttpPolicy): ActionNotAllowedError | null {
  if (policy.private || isPublicAddress(address)) return null;
  const what = host === address ? `${address} is` : `${host} is ${address},`;
  return new ActionNotAllowedError(
    `${what} not a public address, and this peer's http steps reach only those; start it with --http-private (setting http_action.private)`,
    { host, address },
  );
}

/** Hands on only what was checked: the address that is connected to is one of these, not of a second look-up. */
function guardedLookup(policy: HttpPolicy): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) {
        callback(error, []);
        return;
      }
      for (const { address } of addresses) {
        const refusal = refusedAddress(hostname, address, policy);
        if (refusal !== null) {
          callback(refusal, []);
          return;
        }
      }
      if (options.all === true) callback(null, addresses);
      else callback(null, addresses[0]!.address, addresses[0]!.family);
    });
  };
}
