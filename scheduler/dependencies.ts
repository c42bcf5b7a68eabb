/**
 * Tasks and workflows that wait for others. What ends on this peer is told at once; what lives on another peer is
 * asked for with a batched `locate` every DEPENDENCY_POLL_MS.
 */
import { DEPENDENCY_POLL_MS, LOCATE_HOPS_MAX } from './limits.ts';
import type { Locator } from './locator.ts';
import type { Alias } from './messages.ts';
import type { Clock, Log } from './ports.ts';
import { isTerminal } from './records.ts';

/** Ids asked for in one poll; the rest in the next. */
const POLL_ITEMS_MAX = 1_024;

export class Dependencies {
  private readonly clock: Clock;
  private readonly locator: Locator;
  private readonly log: Log;
  private readonly onEnded: (kind: Alias['kind'], dependent: string, id: string, status: string) => void;
  /** Uids that wait, by `kind/id` of what they wait for. */
  private readonly waiting = new Map<string, { alias: Alias; dependents: Set<string>; remote: boolean }>();
  private cancelPoll: (() => void) | null = null;

  constructor(
    components: { clock: Clock; locator: Locator; log: Log },
    onEnded: (kind: Alias['kind'], dependent: string, id: string, status: string) => void,
  ) {
    this.clock = components.clock;
    this.locator = components.locator;
    this.log = components.log;
    this.onEnded = onEnded;
  }

  /** @param remote true when what it waits for lives on another peer */
  add(alias: Alias, dependent: string, remote: boolean): void {
    const key = keyOf(alias);
    const entry = this.waiting.get(key) ?? { alias, dependents: new Set(), remote };
    this.waiting.set(key, entry);
    entry.dependents.add(dependent);
    if (remote) this.pollLater();
  }

  /** A record of this peer, or one that was asked for, has ended. */
  ended(alias: Alias, status: string): void {
    const entry = this.waiting.get(keyOf(alias));
    if (entry === undefined) return;
    this.waiting.delete(keyOf(alias));
    for (const dependent of entry.dependents) this.onEnded(alias.kind, dependent, alias.id, status);
  }

  clear(): void {
    this.waiting.clear();
    this.cancelPoll?.();
    this.cancelPoll = null;
  }

  private pollLater(): void {
    this.cancelPoll ??= this.clock.after(DEPENDENCY_POLL_MS, () => {
      this.cancelPoll = null;
      void this.poll();
    });
  }

  private async poll(): Promise<void> {
    const remote = [...this.waiting.values()].filter((entry) => entry.remote).slice(0, POLL_ITEMS_MAX);
    if (remote.length === 0) return;
    const found = await this.locator.locate(
      remote.map(({ alias }) => alias),
      LOCATE_HOPS_MAX,
    );
    for (const [position, { alias }] of remote.entries()) {
      const status = found[position]?.status;
      if (status === undefined)
        this.log.debug({ alias }, 'no connected peer knows this dependency now; it is asked for again');
      else if (isTerminal(status)) this.ended(alias, status);
    }
    this.pollLater();
  }
}

function keyOf({ kind, id }: Alias): string {
  return `${kind}/${id}`;
}
