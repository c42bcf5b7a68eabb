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
 *    it was (memory), each of the batch runs again alone; and one that was alone, but not the first in its process,
 *    runs again in a fresh one, because others may have left it without memory.
 * 3. Workflows take turns (`job-queue.ts`), and checks of submits have a process to themselves when the others are busy.
 * 4. What waits shares one message, up to JOBS_PER_MESSAGE_MAX jobs.
 */
import { type ErrorShape, type JsonValue, RemoteError } from '../../dag/errors.ts';
import type { CheckedExpression, EvaluationJob, Evaluator } from '../../scheduler/ports.ts';
import { IsolatedProcess, type ProcessEnd } from '../processes/isolated-process.ts';
import { siblingModule } from '../sibling-module.ts';
import type { Job, JobResult, Results } from './evaluator-messages.ts';
import { JobQueue, type QueuedJob } from './job-queue.ts';
import {
  EVALUATOR_PROCESSES_MAX,
  EXPRESSION_MEMORY_MB,
  EXPRESSION_TIMEOUT_MS,
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
  readonly #checks = new JobQueue();
  readonly #evaluations = new JobQueue();
  readonly #unsettled = new Map([
    [this.#checks, 0],
    [this.#evaluations, 0],
  ]);
  #calls = 0;
  #closed = false;

  constructor(options: Required<EvaluatorOptions>) {
    this.#options = options;
  }

  async check(expressions: string[]): Promise<CheckedExpression[]> {
    const jobs = expressions.map((expression) => ({ check: expression }));
    return await this.#run(this.#checks, jobs, '', (result) => {
      if ('problem' in result || 'names' in result) return result;
      if ('error' in result && result.error.retryable) throw new RemoteError(result.error);
      // The parser itself did not come to an end.
      return { problem: { message: 'error' in result ? result.error.message : 'it gave no answer', position: 0 } };
    });
  }

  async evaluate(jobs: EvaluationJob[], whose = ''): Promise<({ value: JsonValue } | { error: ErrorShape })[]> {
    return await this.#run(this.#evaluations, jobs, whose, (result, index) => {
      if ('json' in result) return { value: JSON.parse(result.json) as JsonValue };
      if ('error' in result) return { error: result.error };
      return { error: failure(jobs[index]!.expression, 'it gave no answer') };
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const queue of [this.#checks, this.#evaluations]) {
      for (const each of queue.clear()) each.settle({ error: closedError() });
    }
    await Promise.all([...this.#processes].map((each) => each.close()));
  }

  /** @param read is called with each result as it comes: many large ones are not read at once */
  async #run<T>(
    queue: JobQueue,
    jobs: readonly Job[],
    whose: string,
    read: (result: JobResult, index: number) => T,
  ): Promise<T[]> {
    if (jobs.length === 0) return [];
    const isFull = this.#unsettled.get(queue)! + jobs.length > JOBS_QUEUED_MAX;
    if (this.#closed || isFull) {
      const error = this.#closed ? closedError() : busyError();
      return jobs.map((_, index) => read({ error }, index));
    }
    const group = whose === '' ? `call ${++this.#calls}` : whose;
    const { promise, resolve, reject } = Promise.withResolvers<T[]>();
    const results = new Array<T>(jobs.length);
    let left = jobs.length;
    const count = (change: number) => this.#unsettled.set(queue, this.#unsettled.get(queue)! + change);
    count(jobs.length);
    const settle = (index: number) => (result: JobResult) => {
      left -= 1;
      count(-1);
      try {
        results[index] = read(result, index);
      } catch (error) {
        reject(error);
      }
      if (left === 0) resolve(results);
    };
    queue.add(jobs.map((job, index) => ({ job, group, needs: 'nothing', settle: settle(index) })));
    this.#dispatch();
    return await promise;
  }

  #dispatch(): void {
    while (this.#serve(this.#checks));
    while (this.#countBusy(this.#evaluations) < EVALUATOR_PROCESSES_MAX && this.#serve(this.#evaluations));
  }

  /** @returns whether a batch has found a process */
  #serve(queue: JobQueue): boolean {
    if (queue.first === undefined) return false;
    const free = this.#freeProcess(queue.first.needs === 'a fresh process');
    free?.run(queue, queue.take());
    return free !== null;
  }

  #countBusy(queue: JobQueue): number {
    let busy = 0;
    for (const each of this.#processes) if (each.worksFor(queue)) busy += 1;
    return busy;
  }

  #freeProcess(fresh: boolean): EvaluatorProcess | null {
    const idle = [...this.#processes].filter((each) => each.isFree);
    const fitting = fresh ? idle.find((each) => each.isFresh) : idle[0];
    if (fitting !== undefined) return fitting;
    if (!this.#closed && this.#processes.size <= EVALUATOR_PROCESSES_MAX) return this.#start();
    // Its end makes room for a fresh one.
    void idle[0]?.close();
    return null;
  }

  #start(): EvaluatorProcess {
    const started: EvaluatorProcess = new EvaluatorProcess(this.#options, {
      onFree: () => this.#dispatch(),
      onEnd: () => {
        this.#processes.delete(started);
        this.#dispatch();
      },
      closedError: () => (this.#closed ? closedError() : null),
    });
    this.#processes.add(started);
    return started;
  }
}

interface EvaluatorProcessEvents {
  onFree(): void;
  /** The process is gone; what it had not done waits again. */
  onEnd(): void;
  /** What unfinished jobs get, when nothing runs any more. */
  closedError(): ErrorShape | null;
}

/** One process and the batch it works on. */
class EvaluatorProcess {
  readonly #options: Required<EvaluatorOptions>;
  readonly #events: EvaluatorProcessEvents;
  readonly #process: IsolatedProcess;
  readonly #gone = Promise.withResolvers<void>();
  #queue: JobQueue | null = null;
  #batch: QueuedJob[] = [];
  /** Jobs of the batch that are settled: results come in order. */
  #done = 0;
  /** It has run something before this batch. */
  #hasServed = false;
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
    return this.#queue === null && !this.#closing;
  }

  get isFresh(): boolean {
    return !this.#hasServed;
  }

  worksFor(queue: JobQueue): boolean {
    return this.#queue === queue;
  }

  run(queue: JobQueue, batch: QueuedJob[]): void {
    this.#queue = queue;
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

  #onResults({ results, last }: Results): void {
    for (const result of results) {
      this.#batch[this.#done]?.settle(result);
      this.#done += 1;
    }
    if (!last) {
      this.#expectAnswer();
      return;
    }
    clearTimeout(this.#silence);
    this.#queue?.learn(this.#batch, this.#done);
    this.#putBack(this.#batch.slice(this.#done));
    this.#hasServed = true;
    this.#process.holdOpen(false);
    this.#events.onFree();
  }

  /** @param ran whose turn was used */
  #putBack(unfinished: QueuedJob[], ran = this.#batch.filter((each) => !unfinished.includes(each))): void {
    const error = this.#events.closedError();
    if (error === null) this.#queue?.putBack(unfinished, ran);
    else for (const each of unfinished) each.settle({ error });
    this.#queue = null;
    this.#batch = [];
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
      const lost = unfinished.indexOf(late);
      unfinished.splice(lost, 1);
      late.settle({ error: timeoutError(expressionOf(late.job), this.#options.timeout_ms) });
      this.#queue?.repeat(lost);
      this.#putBack(unfinished, [late]);
    } else {
      if (!this.#closing) this.#suspect(unfinished, end);
      this.#putBack(unfinished);
    }
    this.#gone.resolve();
    this.#events.onEnd();
  }

  /** One of these has ended the process, unless something before them has. Settles the one that is sure to be it. */
  #suspect(unfinished: QueuedJob[], end: ProcessEnd): void {
    const only = unfinished.length === 1 ? unfinished[0]! : undefined;
    if (only === undefined) for (const each of unfinished) each.needs = 'to be alone';
    else if (this.#hasServed || this.#batch.length > 1) only.needs = 'a fresh process';
    else {
      unfinished.pop();
      only.settle({ error: failure(expressionOf(only.job), this.#reason(end)) });
    }
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
