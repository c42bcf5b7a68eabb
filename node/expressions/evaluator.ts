/**
 * The Evaluator port: JSONata in child processes that can be ended (`executors/isolated-process.ts` says why not in
 * threads), started when there is work and kept.
 *
 *   const evaluator = createEvaluator();
 *   await evaluator.evaluate([{ expression: '$sum(input.prices)', scope: { input: { prices: [1, 2] } } }]);
 *   // [{ value: 3 }]
 *
 * 1. Every job settles: with a value, with its own error, or with the process's when it ended for this job.
 * 2. A job that ends its process takes no other job along: those behind it run again. When it is not known which one
 *    it was (memory), each of the batch runs again alone.
 * 3. A call is one message, unless it has more than JOBS_PER_MESSAGE_MAX jobs; calls that wait share one.
 */
import type { ErrorShape, JsonValue } from '../../dag/errors.ts';
import type { CheckedExpression, EvaluationJob, Evaluator } from '../../scheduler/ports.ts';
import { IsolatedProcess, type ProcessEnd, siblingModule } from '../executors/isolated-process.ts';
import type { Job, JobResult, Results } from './evaluator-messages.ts';
import {
  EVALUATOR_PROCESSES_MAX,
  EXPRESSION_MEMORY_MB,
  EXPRESSION_TIMEOUT_MS,
  JOBS_PER_MESSAGE_MAX,
  JOBS_QUEUED_MAX,
  SILENCE_GRACE_MS,
} from './limits.ts';
import { failure, timeoutError } from './problems.ts';

export interface EvaluatorOptions {
  /** Running time of one expression. Default EXPRESSION_TIMEOUT_MS. */
  timeout_ms?: number;
  /** JavaScript heap of a process. Default EXPRESSION_MEMORY_MB. */
  memory_mb?: number;
  /** A process that has not answered for so long is given up. Default: two running times and SILENCE_GRACE_MS. */
  silence_ms?: number;
}

interface QueuedJob {
  job: Job;
  settle(result: JobResult): void;
  /** It shared a batch that ended its process: it gets the next one for itself. */
  alone: boolean;
}

export type ClosableEvaluator = Evaluator & { close(): Promise<void> };

/** Starts nothing yet. `close` ends the processes; what waits is answered with `EVALUATOR_CLOSED`. */
export function createEvaluator(options: EvaluatorOptions = {}): ClosableEvaluator {
  const { timeout_ms = EXPRESSION_TIMEOUT_MS, memory_mb = EXPRESSION_MEMORY_MB } = options;
  const { silence_ms = 2 * timeout_ms + SILENCE_GRACE_MS } = options;
  return new ProcessEvaluator({ timeout_ms, memory_mb, silence_ms });
}

class ProcessEvaluator implements ClosableEvaluator {
  readonly #options: Required<EvaluatorOptions>;
  readonly #processes = new Set<EvaluatorProcess>();
  #queue: QueuedJob[] = [];
  #unsettled = 0;
  #closed = false;

  constructor(options: Required<EvaluatorOptions>) {
    this.#options = options;
  }

  async check(expressions: string[]): Promise<CheckedExpression[]> {
    const results = await this.#run(expressions.map((expression) => ({ check: expression })));
    return results.map((result) => {
      if ('problem' in result || 'names' in result) return result;
      // The parser itself did not come to an end, or the evaluator is stopping.
      return { problem: { message: 'error' in result ? result.error.message : 'it gave no answer', position: 0 } };
    });
  }

  async evaluate(jobs: EvaluationJob[]): Promise<({ value: JsonValue } | { error: ErrorShape })[]> {
    const results = await this.#run(jobs);
    return results.map((result, index) => {
      if ('json' in result) return { value: JSON.parse(result.json) as JsonValue };
      if ('error' in result) return { error: result.error };
      return { error: failure(jobs[index]!.expression, 'it gave no answer') };
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    const waiting = this.#queue;
    this.#queue = [];
    for (const each of waiting) each.settle({ error: closedError() });
    await Promise.all([...this.#processes].map((each) => each.close()));
  }

  #run(jobs: Job[]): Promise<JobResult[]> {
    if (jobs.length === 0) return Promise.resolve([]);
    if (this.#closed) return Promise.resolve(jobs.map(() => ({ error: closedError() })));
    if (this.#unsettled + jobs.length > JOBS_QUEUED_MAX)
      return Promise.resolve(jobs.map(() => ({ error: busyError() })));
    return new Promise((resolve) => {
      const results = new Array<JobResult>(jobs.length);
      let left = jobs.length;
      this.#unsettled += jobs.length;
      for (const [index, job] of jobs.entries()) {
        const settle = (result: JobResult) => {
          results[index] = result;
          left -= 1;
          this.#unsettled -= 1;
          if (left === 0) resolve(results);
        };
        this.#queue.push({ job, settle, alone: false });
      }
      this.#dispatch();
    });
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const free = this.#freeProcess();
      if (free === null) return;
      free.run(this.#nextBatch());
    }
  }

  #freeProcess(): EvaluatorProcess | null {
    for (const each of this.#processes) if (each.isFree) return each;
    if (this.#closed || this.#processes.size >= EVALUATOR_PROCESSES_MAX) return null;
    const started: EvaluatorProcess = new EvaluatorProcess(this.#options, {
      onFree: () => this.#dispatch(),
      onEnd: (unfinished) => {
        this.#processes.delete(started);
        if (this.#closed) for (const each of unfinished) each.settle({ error: closedError() });
        else this.#queue.unshift(...unfinished);
        this.#dispatch();
      },
    });
    this.#processes.add(started);
    return started;
  }

  #nextBatch(): QueuedJob[] {
    if (this.#queue[0]!.alone) return this.#queue.splice(0, 1);
    const firstAlone = this.#queue.slice(0, JOBS_PER_MESSAGE_MAX).findIndex((each) => each.alone);
    return this.#queue.splice(0, firstAlone === -1 ? JOBS_PER_MESSAGE_MAX : firstAlone);
  }
}

interface EvaluatorProcessEvents {
  onFree(): void;
  /** The process is gone; these jobs are to run again. */
  onEnd(unfinished: QueuedJob[]): void;
}

/** One process and the batch it works on. */
class EvaluatorProcess {
  readonly #options: Required<EvaluatorOptions>;
  readonly #events: EvaluatorProcessEvents;
  readonly #process: IsolatedProcess;
  readonly #gone = Promise.withResolvers<void>();
  #batch: QueuedJob[] = [];
  /** Jobs of the batch that are settled: results come in order. */
  #done = 0;
  #silence: NodeJS.Timeout | undefined;
  #closing = false;

  constructor(options: Required<EvaluatorOptions>, events: EvaluatorProcessEvents) {
    this.#options = options;
    this.#events = events;
    this.#process = new IsolatedProcess({
      entry: siblingModule('evaluator-process', import.meta.url),
      args: [String(options.timeout_ms)],
      memoryMb: options.memory_mb,
      environment: { variables: {}, mark: null },
      onMessage: (message) => this.#onResults(message as Results),
      onEnd: (end) => this.#onEnd(end),
    });
  }

  get isFree(): boolean {
    return this.#batch.length === 0;
  }

  run(batch: QueuedJob[]): void {
    this.#batch = batch;
    this.#done = 0;
    this.#process.holdOpen(true);
    this.#expectAnswer();
    this.#process.send({ jobs: batch.map((each) => each.job) });
  }

  close(): Promise<void> {
    this.#closing = true;
    // An idle one would not keep this process for as long as its end takes.
    this.#process.holdOpen(true);
    this.#process.kill();
    return this.#gone.promise;
  }

  #onResults({ results }: Results): void {
    for (const result of results) {
      this.#batch[this.#done]?.settle(result);
      this.#done += 1;
    }
    if (this.#done < this.#batch.length) {
      this.#expectAnswer();
      return;
    }
    clearTimeout(this.#silence);
    this.#batch = [];
    this.#process.holdOpen(false);
    this.#events.onFree();
  }

  /** The process watches each job itself; this is for one that is stuck outside of a job. */
  #expectAnswer(): void {
    clearTimeout(this.#silence);
    const batch = this.#batch;
    const done = this.#done;
    const giveUp = () => {
      if (this.#batch === batch && this.#done === done) this.#process.kill();
    };
    // After a stop of this peer, timers come before the answers that wait to be read.
    this.#silence = setTimeout(() => setImmediate(giveUp), this.#options.silence_ms);
  }

  #onEnd(end: ProcessEnd): void {
    clearTimeout(this.#silence);
    const unfinished = this.#batch.slice(this.#done);
    const late = end.stdout === '' ? undefined : this.#batch[Number(end.stdout)];
    if (late !== undefined && unfinished.includes(late)) {
      unfinished.splice(unfinished.indexOf(late), 1);
      late.settle({ error: timeoutError(expressionOf(late.job), this.#options.timeout_ms) });
    } else if (!this.#closing && unfinished.length === 1 && (unfinished[0]!.alone || this.#batch.length === 1)) {
      const only = unfinished.pop()!;
      only.settle({ error: failure(expressionOf(only.job), this.#reason(end)) });
    } else {
      for (const each of unfinished) each.alone = true;
    }
    this.#batch = [];
    this.#gone.resolve();
    this.#events.onEnd(unfinished);
  }

  #reason(end: ProcessEnd): string {
    if (end.outOfMemory) return `it needs more than ${this.#options.memory_mb} MB of memory`;
    return `its process ended (${end.how}) ${end.stderr.trim()}`.trim();
  }
}

function expressionOf(job: Job): string {
  return 'check' in job ? job.check : job.expression;
}

function closedError(): ErrorShape {
  return { code: 'EVALUATOR_CLOSED', message: 'the peer is stopping and evaluates nothing more', retryable: true };
}

function busyError(): ErrorShape {
  return {
    code: 'EVALUATOR_BUSY',
    message: `more than ${JOBS_QUEUED_MAX} expressions wait on this peer; try again later or submit smaller workflows`,
    retryable: true,
  };
}
