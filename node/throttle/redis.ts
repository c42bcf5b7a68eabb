/**
 * Counts that several peers share, in Redis. While it cannot be asked (down, away, hanging) each peer counts by itself, and
 * two lines of the log say from when to when.
 */
import { Redis } from 'ioredis';
import type { IRateLimiterOptions, RateLimiterAbstract } from 'rate-limiter-flexible';
import * as flexible from 'rate-limiter-flexible';
import type { Log } from '../../scheduler/ports.ts';
import { REDIS_ANSWER_WAIT_MS, REDIS_RECONNECT_MAX_MS, REDIS_START_WAIT_MS } from './limits.ts';

const RECONNECT_STEP_MS = 100;

export interface SharedCounts {
  counts(options: IRateLimiterOptions & { points: number; keyPrefix: string }): RateLimiterAbstract;
  close(): void;
}

/** Waits for Redis at most REDIS_START_WAIT_MS, and goes on without it. */
export async function openSharedCounts(url: string, mesh: string, log: Log): Promise<SharedCounts> {
  const client = new Redis(url, {
    // What cannot be asked now is counted here: nothing waits.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    connectTimeout: REDIS_START_WAIT_MS,
    socketTimeout: REDIS_ANSWER_WAIT_MS,
    commandTimeout: REDIS_ANSWER_WAIT_MS,
    retryStrategy: (times) => Math.min(times * RECONNECT_STEP_MS, REDIS_RECONNECT_MAX_MS),
  });
  let isShared: boolean | undefined;
  const down = (error?: Error) => {
    if (isShared === false) return;
    isShared = false;
    // Not the URL: a password may be in it.
    log.warn({ err: error }, 'Redis cannot be asked: until it answers this peer counts what callers do by itself');
  };
  client.on('error', down);
  client.on('close', () => down());
  client.on('ready', () => {
    isShared = true;
    log.info({}, 'what callers do is counted in Redis, together with other peers');
  });
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, REDIS_START_WAIT_MS);
    for (const event of ['ready', 'error']) {
      client.once(event, () => {
        clearTimeout(timer);
        resolve();
      });
    }
  });
  return {
    counts: (options) =>
      new flexible.RateLimiterRedis({
        ...options,
        storeClient: client,
        keyPrefix: `flowmesh:${mesh}:${options.keyPrefix}`,
        rejectIfRedisNotReady: true,
        // A caller that is beyond a limit is refused without a question.
        inMemoryBlockOnConsumed: options.points + 1,
        insuranceLimiter: new flexible.RateLimiterMemory(options),
      }),
    close() {
      client.removeAllListeners('close');
      client.disconnect();
    },
  };
}
