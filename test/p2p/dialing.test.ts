/** How often a bootstrap address is dialled at which nobody answers, on a clock of the test. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Bootstrap } from '../../node/p2p/dialing.ts';
import type { KnownPeers } from '../../node/p2p/known-peers.ts';
import type { Links } from '../../node/p2p/links.ts';
import { quietLog } from '../executors/recorded-io.ts';

const ADDRESS = '/ip4/127.0.0.1/tcp/7600';
const MINUTE_MS = 60_000;

describe('a bootstrap address at which nobody answers yet', () => {
  let connected: string[];
  let dials: number;
  let bootstrap: Bootstrap;

  beforeEach(() => {
    vi.useFakeTimers();
    connected = [];
    dials = 0;
    const links = {
      connected: () => connected,
      openAddress: async () => {
        dials++;
        throw new Error('connection refused');
      },
    };
    // The two parts of them that a failing dial needs.
    bootstrap = new Bootstrap(links as unknown as Links, {} as KnownPeers, {
      addresses: [ADDRESS],
      isSelf: () => false,
      log: quietLog,
    });
    bootstrap.start();
  });
  afterEach(() => {
    bootstrap.stop();
    vi.useRealTimers();
  });

  it('is dialled every second by a peer that has no other, so that peers started together meet at once', async () => {
    await vi.advanceTimersByTimeAsync(MINUTE_MS);
    const before = dials;
    await vi.advanceTimersByTimeAsync(MINUTE_MS);
    expect(dials - before).toBeGreaterThanOrEqual(60);
    expect(dials - before).toBeLessThanOrEqual(120);
  });

  it('is dialled seldom by a peer that has others', async () => {
    connected = ['another peer'];
    await vi.advanceTimersByTimeAsync(MINUTE_MS);
    const before = dials;
    await vi.advanceTimersByTimeAsync(MINUTE_MS);
    expect(dials - before).toBeGreaterThanOrEqual(6);
    expect(dials - before).toBeLessThanOrEqual(12);
  });
});
