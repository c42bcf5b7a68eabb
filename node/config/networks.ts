/** Addresses and networks as settings name them: `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`. */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

export type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** An address, and how many of its bits make the network. */
export type Network = [Address, number];

/**
 * As it is compared: an IPv4 address that came as an IPv6 one is that IPv4 address.
 *
 * @param text with or without a zone, as sockets tell it: `::ffff:10.0.0.7`, `fe80::1%eth0`
 * @returns undefined for what is no address
 */
export function addressOf(text: string): Address | undefined {
  const bare = text.replace(/%.*$/, '');
  return isIP(bare) === 0 ? undefined : ipaddr.process(bare);
}

/** @returns undefined for what is neither an address nor a network */
export function networkOf(text: string): Network | undefined {
  const [address, bits, ...rest] = text.split('/');
  const parsed = isIP(address!) === 0 || rest.length > 0 ? undefined : ipaddr.parse(address!);
  if (parsed === undefined) return undefined;
  const all = parsed.kind() === 'ipv4' ? 32 : 128;
  if (bits === undefined) return [parsed, all];
  return /^\d{1,3}$/.test(bits) && Number(bits) <= all ? [parsed, Number(bits)] : undefined;
}

export function isWithin(address: Address, [network, bits]: Network): boolean {
  return address.kind() === network.kind() && address.match([network, bits] as never);
}
