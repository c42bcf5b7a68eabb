/**
 * How much each caller may ask of this peer, or of all peers that count in one Redis.
 *
 *   const throttle = await openThrottle({ settings: config.limits, mesh: config.mesh, reader, clock, log });
 *   await throttle.request('key:ci', 4_096); // throws RateLimitedError
 *   const ended = await throttle.call('key:ci', 'workflow_submit');
 *   ended(); // when the call has
 *
 * 1. Numbers in a time (`rate-limiter-flexible`) are counted in windows that begin with the first of them.
 * 2. A Redis that is down stops nobody: until it answers again the peer counts by itself, with the same limits.
 * 3. Open workflows are counted from the records that this peer has. What it is sure of is an upper bound: it looks into
 *    the records when the bound reaches the limit, and not at each submit. More are never let in at once.
 */
import type { RateLimiterAbstract, RateLimiterRes } from 'rate-limiter-flexible';
import * as flexible from 'rate-limiter-flexible';
import type { Clock, Log, Reader } from '../../scheduler/ports.ts';
import type { WorkflowRecord } from '../../scheduler/records.ts';
import type { LimitsSettings } from '../config/quotas.ts';
import { RateLimitedError } from './errors.ts';
import { OPEN_WORKFLOWS_CALLERS_MAX, OPEN_WORKFLOWS_COUNT_AGE_MS, OPEN_WORKFLOWS_RETRY_MS } from './limits.ts';
import type { SharedCounts } from './redis.ts';

const SECOND = 1;
const MINUTE = 60;
const NOTHING = () => {};
const SUBMITTING: ReadonlySet<string> = new Set(['workflow_submit', 'task_submit', 'task_retry']);
const ENDED_STATUSES: readonly WorkflowRecord['status'][] = ['completed', 'failed', 'cancelled'];

/** One number in one time. */
class Rate {
  readonly #limit: string;
  readonly #max: number;
  readonly #what: string;
  readonly #counts: Pick<RateLimiterAbstract, 'consume'>;

  constructor(limit: string, max: number, seconds: number, what: string, shared: SharedCounts | undefined) {
    this.#limit = limit;
    this.#max = max;
    this.#what = what;
    const options = { points: max, duration: seconds, keyPrefix: limit };
    this.#counts = shared?.counts(options) ?? new flexible.RateLimiterMemory(options);
  }

  /** @throws RateLimitedError */
  async spend(key: string, count: number): Promise<void> {
    try {
      await this.#counts.consume(key, count);
    } catch (refused) {
      if (refused instanceof Error) throw refused;
      throw new RateLimitedError(this.#limit, this.#max, this.#what, (refused as RateLimiterRes).msBeforeNext);
    }
  }
}

export interface ThrottleParts {
  settings: LimitsSettings;
  reader: Reader;
  clock: Clock;
  /** Where other peers count, too. Default: each counts by itself. */
  shared?: SharedCounts | undefined;
}

export class Throttle {
  readonly #requests: Rate;
  readonly #bytes: Rate;
  readonly #calls: Rate;
  readonly #callsByTool: Map<string, Rate>;
  readonly #submissions: Rate;
  readonly #open: OpenWorkflows;
  readonly #shared: SharedCounts | undefined;

  constructor({ settings, reader, clock, shared }: ThrottleParts) {
    const { requests_per_second, calls_per_second, submissions_per_minute, bytes_per_minute, tools } = settings;
    this.#shared = shared;
    this.#requests = new Rate('requests_per_second', requests_per_second, SECOND, 'requests per second', shared);
    this.#bytes = new Rate('bytes_per_minute', bytes_per_minute, MINUTE, 'bytes per minute', shared);
    this.#calls = new Rate('calls_per_second', calls_per_second, SECOND, 'calls of a tool per second', shared);
    this.#callsByTool = new Map(
      Object.entries(tools).map(([tool, max]) => {
        return [tool, new Rate(`tools.${tool}`, max, SECOND, `calls of ${tool} per second`, shared)];
      }),
    );
    const submissions = 'submissions per minute';
    this.#submissions = new Rate('submissions_per_minute', submissions_per_minute, MINUTE, submissions, shared);
    this.#open = new OpenWorkflows(settings.open_workflows, reader, clock);
  }

  /**
   * Counts an HTTP request, before it is read.
   *
   * @param bytes of its body, as far as it says
   * @throws RateLimitedError
   */
  async request(caller: string, bytes: number): Promise<void> {
    await this.#requests.spend(caller, 1);
    if (bytes > 0) await this.#bytes.spend(caller, bytes);
  }

  /** Counts a body that did not say before how large it is: beyond the limit the next one is refused. */
  async spent(caller: string, bytes: number): Promise<void> {
    await this.#bytes.spend(caller, bytes).catch(() => {}); // it was read already: the next one is refused
  }

  /**
   * Counts a call of a tool, before it is run.
   *
   * @returns to be told when it has ended
   * @throws RateLimitedError
   */
  async call(caller: string, tool: string): Promise<() => void> {
    const own = this.#callsByTool.get(tool);
    await (own ?? this.#calls).spend(`${tool} ${caller}`, 1);
    if (SUBMITTING.has(tool)) await this.#submissions.spend(caller, 1);
    return tool === 'workflow_submit' ? await this.#open.take(caller) : NOTHING;
  }

  close(): void {
    this.#shared?.close();
  }
}

interface Held {
  /** No more than so many are open. */
  atMost: number;
  /** Submits that are under way: their records may be there already, or not yet. */
  underWay: number;
  /** Submits so far. */
  taken: number;
  countedAt: number;
  counting: Promise<void> | undefined;
}

/** The open workflows of each caller, nested ones too. */
class OpenWorkflows {
  readonly #max: number;
  readonly #reader: Reader;
  readonly #clock: Clock;
  /** In the order in which they were first counted. */
  readonly #callers = new Map<string, Held>();

  constructor(max: number, reader: Reader, clock: Clock) {
    this.#max = max;
    this.#reader = reader;
    this.#clock = clock;
  }

  /** @returns to be told when the submit has ended @throws RateLimitedError */
  async take(caller: string): Promise<() => void> {
    const held = this.#heldBy(caller);
    const isOld = this.#clock.now() - held.countedAt > OPEN_WORKFLOWS_COUNT_AGE_MS;
    if (isOld || held.atMost >= this.#max) {
      held.counting ??= this.#count(caller, held).finally(() => {
        held.counting = undefined;
      });
      await held.counting;
    }
    if (held.atMost >= this.#max) {
      throw new RateLimitedError('open_workflows', this.#max, 'open workflows', OPEN_WORKFLOWS_RETRY_MS);
    }
    held.atMost += 1;
    held.underWay += 1;
    held.taken += 1;
    return () => {
      held.underWay -= 1;
    };
  }

  #heldBy(caller: string): Held {
    const found = this.#callers.get(caller);
    if (found !== undefined) return found;
    const held: Held = { atMost: 0, underWay: 0, taken: 0, countedAt: Number.NEGATIVE_INFINITY, counting: undefined };
    if (this.#callers.size >= OPEN_WORKFLOWS_CALLERS_MAX) this.#forgetOne();
    this.#callers.set(caller, held);
    return held;
  }

  #forgetOne(): void {
    for (const [caller, { underWay, counting }] of this.#callers) {
      if (underWay > 0 || counting !== undefined) continue;
      this.#callers.delete(caller);
      return;
    }
  }

  async #count(caller: string, held: Held): Promise<void> {
    const { underWay, taken } = held;
    const countOf = async (status?: string) => {
      const query = { kind: 'workflow', status, submitted_by: caller, limit: 0, offset: 0 } as const;
      return (await this.#reader.list(query)).total;
    };
    // First all: what ends while this is counted has ended.
    let open = await countOf();
    for (const status of ENDED_STATUSES) open -= await countOf(status);
    // What was under way then, or was begun meanwhile, may be among them or not.
    held.atMost = open + underWay + (held.taken - taken);
    held.countedAt = this.#clock.now();
  }
}

/** @param mesh peers of another mesh that use the same Redis count apart */
export async function openThrottle({
  mesh,
  log,
  ...parts
}: Omit<ThrottleParts, 'shared'> & { mesh: string; log: Log }): Promise<Throttle> {
  const { redis_url } = parts.settings;
  if (redis_url === undefined) return new Throttle(parts);
  const { openSharedCounts } = await import('./redis.ts');
  return new Throttle({ ...parts, shared: await openSharedCounts(redis_url, mesh, log) });
}
