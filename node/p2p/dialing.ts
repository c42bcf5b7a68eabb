/**
 * Who is dialled without being asked: the bootstrap addresses, for ever, and peers that were connected once, for a
 * bounded number of tries. Both back off exponentially with jitter, so that a mesh that lost a peer does not call it
 * in chorus.
 */

import type { Log } from '../../scheduler/ports.ts';
import { parseAddress, peerIn } from './addresses.ts';
import { isRefusal, reasonOf, rootReasonOf } from './errors.ts';
import type { KnownPeers } from './known-peers.ts';
import type { Links } from './links.ts';

const RECONNECT_INITIAL_MS = 500;
const RECONNECT_MAX_MS = 30_000;
/** With the delays above about a quarter of an hour. The bootstrap addresses are dialled on. */
const RECONNECT_TRIES_MAX = 35;
const BOOTSTRAP_INITIAL_MS = 200;
const BOOTSTRAP_MAX_MS = 10_000;
/** While no peer is connected: peers that are started together wait for the slowest of them, and no longer. */
const BOOTSTRAP_ALONE_MAX_MS = 1_000;
const DIAL_DEADLINE_MS = 5_000;

/** Exponential from `initialMs`, at most `maxMs`; the upper half of it is random. */
export function backoffMs(failures: number, initialMs: number, maxMs: number): number {
  return Math.min(maxMs, initialMs * 2 ** Math.min(failures, 30)) * (0.5 + Math.random() / 2);
}

/** Dials peers again that were lost. */
export class Reconnects {
  readonly #links: Links;
  readonly #known: KnownPeers;
  readonly #log: Log;
  readonly #denied: () => Set<string>;
  readonly #timers = new Map<string, NodeJS.Timeout>();

  constructor(links: Links, known: KnownPeers, denied: () => Set<string>, log: Log) {
    this.#links = links;
    this.#known = known;
    this.#denied = denied;
    this.#log = log;
  }

  /** Starts over; the first try comes after a short delay. */
  start(peer: string): void {
    this.cancel(peer);
    this.#schedule(peer, 0);
  }

  /** This peer is in another network: those that could not be reached from the last one are tried now. */
  hurry(): void {
    for (const peer of [...this.#timers.keys()]) this.start(peer);
  }

  cancel(peer: string): void {
    clearTimeout(this.#timers.get(peer));
    this.#timers.delete(peer);
  }

  stop(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  #schedule(peer: string, failures: number): void {
    const delay = backoffMs(failures, RECONNECT_INITIAL_MS, RECONNECT_MAX_MS);
    this.#timers.set(
      peer,
      setTimeout(() => void this.#try(peer, failures), delay),
    );
  }

  async #try(peer: string, failures: number): Promise<void> {
    const known = this.#known.get(peer);
    if (known === undefined || !known.kept || known.held || this.#links.stream(peer) !== null) {
      this.#timers.delete(peer);
      return;
    }
    const timer = this.#timers.get(peer);
    try {
      if (!this.#denied().has(peer)) {
        await this.#links.open(peer, [], AbortSignal.timeout(DIAL_DEADLINE_MS));
        this.#timers.delete(peer);
        return;
      }
    } catch (error) {
      this.#log.debug({ peer, failures: failures + 1, reason: reasonOf(error) }, 'a lost peer is still away');
    }
    if (this.#timers.get(peer) !== timer) return; // Cancelled or started over meanwhile.
    if (failures + 1 < RECONNECT_TRIES_MAX) this.#schedule(peer, failures + 1);
    else {
      this.#timers.delete(peer);
      known.kept = false;
      this.#log.info({ peer, tries: RECONNECT_TRIES_MAX }, 'a lost peer is not dialled any more');
    }
  }
}

interface BootstrapEntry {
  address: string;
  /** Who answered there last. */
  peer: string | undefined;
  failures: number;
  timer: NodeJS.Timeout | undefined;
  dialling: boolean;
}

/** Keeps a connection to each bootstrap address. */
export class Bootstrap {
  readonly #links: Links;
  readonly #known: KnownPeers;
  readonly #log: Log;
  readonly #isSelf: (address: string) => boolean;
  readonly #entries: BootstrapEntry[];
  #stopped = false;

  constructor(
    links: Links,
    known: KnownPeers,
    options: { addresses: string[]; isSelf: (address: string) => boolean; log: Log },
  ) {
    this.#links = links;
    this.#known = known;
    this.#log = options.log;
    this.#isSelf = options.isSelf;
    this.#entries = options.addresses.map((address) => ({
      address,
      peer: peerIn(parseAddress(address)),
      failures: 0,
      timer: undefined,
      dialling: false,
    }));
  }

  get addresses(): string[] {
    return this.#entries.map(({ address }) => address);
  }

  start(): void {
    for (const entry of this.#entries) void this.#dial(entry);
  }

  /** The peer behind an address is gone: dial again. */
  lost(peer: string): void {
    for (const entry of this.#entries) {
      if (entry.peer !== peer) continue;
      entry.failures = 0;
      this.#schedule(entry);
    }
  }

  /** As `Reconnects.hurry`. */
  hurry(): void {
    for (const entry of this.#entries) {
      if (entry.timer === undefined) continue;
      entry.failures = 0;
      this.#schedule(entry);
    }
  }

  stop(): void {
    this.#stopped = true;
    for (const { timer } of this.#entries) clearTimeout(timer);
  }

  #schedule(entry: BootstrapEntry, delayMs = this.#backoffMs(entry)): void {
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => void this.#dial(entry), delayMs);
  }

  #backoffMs({ failures }: BootstrapEntry): number {
    const maxMs = this.#links.connected().length === 0 ? BOOTSTRAP_ALONE_MAX_MS : BOOTSTRAP_MAX_MS;
    return backoffMs(failures, BOOTSTRAP_INITIAL_MS, maxMs);
  }

  async #dial(entry: BootstrapEntry): Promise<void> {
    const { address } = entry;
    if (this.#stopped || entry.dialling) return;
    if (this.#isSelf(address)) return this.#log.info({ address }, 'this peer is the bootstrap peer of its address');
    if (entry.peer !== undefined && this.#links.stream(entry.peer) !== null) return; // `lost` starts it again.
    if (entry.peer !== undefined && this.#known.get(entry.peer)?.held) {
      // Disconnected on purpose: look again seldom, in case that is undone.
      return this.#schedule(entry, BOOTSTRAP_MAX_MS);
    }
    entry.dialling = true;
    try {
      const { peer } = await this.#links.openAddress(address, AbortSignal.timeout(DIAL_DEADLINE_MS));
      entry.peer = peer;
      entry.failures = 0;
      const known = this.#known.learn(peer, [address]);
      if (known.source !== 'bootstrap') known.source = 'bootstrap';
      this.#log.info({ address, peer }, 'connected to a bootstrap peer');
      // It may have been lost again before its name was known here.
      if (this.#links.stream(peer) === null) this.#schedule(entry);
    } catch (error) {
      this.#failed(entry, error);
    } finally {
      entry.dialling = false;
    }
  }

  #failed(entry: BootstrapEntry, error: unknown): void {
    if (this.#stopped) return;
    if (isSelfDial(error)) {
      this.#log.info({ address: entry.address }, 'a bootstrap address is this peer itself');
      return;
    }
    entry.failures++;
    const { address, failures } = entry;
    const why = isRefusal(error)
      ? `cannot be joined: ${reasonOf(error)}`
      : `is not reachable (${rootReasonOf(error)}).`;
    // The first, second, fourth, … failure: for ever, but not a flood.
    this.#log[Number.isInteger(Math.log2(failures)) ? 'warn' : 'debug'](
      { address, failures },
      `bootstrap peer ${address} ${why} Trying on; local work is served meanwhile.`,
    );
    this.#schedule(entry);
  }
}

function isSelfDial(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause.name === 'InvalidPeerIdError' && /self/.test(cause.message)) return true;
  }
  return false;
}
