import { FlowmeshError } from '../../dag/errors.ts';

/** A caller asks too much. Nothing was done. */
export class RateLimitedError extends FlowmeshError {
  readonly retryAfterMs: number;

  /** @param limit its name in the settings */
  constructor(limit: string, max: number, what: string, retryAfterMs: number) {
    const seconds = Math.max(1, Math.ceil(retryAfterMs / 1_000));
    super(
      'RATE_LIMITED',
      `you may have ${max} ${what} at this peer, and you are beyond that: come back in ${seconds} s, or have its admin raise limits.${limit}`,
      { retryable: true, details: { limit, max, retry_after_ms: retryAfterMs } },
    );
    this.retryAfterMs = retryAfterMs;
  }
}
