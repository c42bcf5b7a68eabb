/** Counts and latencies of calls by tool, measured where the caller waits. */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import type { CallFigures } from './mesh-link.ts';

/** Two significant figures keep a histogram at some 20 KB; values beyond ten minutes count as ten minutes. */
const FIGURES = 2;
const HIGHEST_US = 600_000_000;
const US_PER_MS = 1_000;

interface Counter {
  latencyUs: RecordableHistogram;
  errors: number;
}

export class CallLatencies {
  readonly #counters = new Map<string, Counter>();

  /** @param startedMs `performance.now()` when the call began */
  record(tool: string, startedMs: number, ok: boolean): void {
    let counter = this.#counters.get(tool);
    if (counter === undefined) {
      counter = { latencyUs: createHistogram({ lowest: 1, highest: HIGHEST_US, figures: FIGURES }), errors: 0 };
      this.#counters.set(tool, counter);
    }
    const elapsedUs = Math.round((performance.now() - startedMs) * US_PER_MS);
    counter.latencyUs.record(Math.min(HIGHEST_US, Math.max(1, elapsedUs)));
    if (!ok) counter.errors += 1;
  }

  figures(): Record<string, CallFigures> {
    const byTool: Record<string, CallFigures> = {};
    for (const [tool, { latencyUs, errors }] of this.#counters) {
      byTool[tool] = {
        count: latencyUs.count,
        errors,
        mean_ms: toMs(latencyUs.mean),
        p50_ms: toMs(latencyUs.percentile(50)),
        p95_ms: toMs(latencyUs.percentile(95)),
        p99_ms: toMs(latencyUs.percentile(99)),
        max_ms: toMs(latencyUs.max),
      };
    }
    return byTool;
  }
}

function toMs(microseconds: number): number {
  return Math.round(microseconds) / US_PER_MS;
}
