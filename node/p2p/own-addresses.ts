/**
 * Notices that this machine has other addresses than before: a laptop that went to another network. Its connections
 * are dead then, though nothing says so, and what others know of its addresses is old.
 */
import { networkInterfaces } from 'node:os';

/** Asking the system costs some microseconds. */
const LOOK_INTERVAL_MS = 1_000;

export class OwnAddresses {
  readonly #changed: () => void;
  #timer: NodeJS.Timeout | undefined;
  #before = '';

  constructor(changed: () => void) {
    this.#changed = changed;
  }

  start(): void {
    this.#before = current();
    this.#timer = setInterval(() => this.#look(), LOOK_INTERVAL_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const now = current();
    if (now === this.#before) return;
    this.#before = now;
    this.#changed();
  }
}

/** Without link-local ones, which come and go by themselves. */
function current(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((each) => (each ?? []).map(({ address }) => address));
  return addresses
    .filter((address) => !/^fe80:/i.test(address))
    .sort()
    .join();
}
