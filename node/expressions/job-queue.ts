/**
 * Jobs that wait for a process: those of a submit's checks, which come first, and those of workflows, which take
 * turns. A turn ends after SLICE_MS and the job that runs then; what of a batch has not run waits again, before what
 * came after it, and those who had nothing of the batch are next.
 */
import type { Job, JobResult } from './evaluator-messages.ts';
import { JOBS_PER_MESSAGE_MAX } from './limits.ts';

export interface QueuedJob {
  job: Job;
  /** Whose turn it runs in. */
  group: string;
  /**
   * What it needs after it was among those whose process ended, and it is not known for which of them: a message to
   * itself, and then a process that has run nothing else.
   */
  needs: 'nothing' | 'to be alone' | 'a fresh process';
  settle(result: JobResult): void;
}

export class JobQueue {
  /** In the order of their turns. */
  readonly #turns: string[] = [];
  readonly #waiting = new Map<string, QueuedJob[]>();
  /** Costly jobs go in small batches: what does not run is sent again. */
  #batchJobs = JOBS_PER_MESSAGE_MAX;

  /** The first job of the next batch. */
  get first(): QueuedJob | undefined {
    return this.#waiting.get(this.#turns[0] ?? '')?.[0];
  }

  add(jobs: readonly QueuedJob[]): void {
    for (const job of jobs) {
      const waiting = this.#waiting.get(job.group);
      if (waiting === undefined) {
        this.#waiting.set(job.group, [job]);
        this.#turns.push(job.group);
      } else waiting.push(job);
    }
  }

  /** The next batch, of those whose turn it is; empty when nothing waits. */
  take(): QueuedJob[] {
    const batch: QueuedJob[] = [];
    const served: string[] = [];
    while (this.#turns.length > 0 && batch.length < this.#batchJobs) {
      const group = this.#turns[0]!;
      const waiting = this.#waiting.get(group)!;
      const room = this.#batchJobs - batch.length;
      const special = waiting.slice(0, room).findIndex(({ needs }) => needs !== 'nothing');
      // One that needs to be alone is alone.
      if (special === 0 && batch.length > 0) break;
      batch.push(...waiting.splice(0, special === 0 ? 1 : special === -1 ? room : special));
      this.#turns.shift();
      if (waiting.length > 0) served.push(group);
      else this.#waiting.delete(group);
      if (special === 0) break;
    }
    this.#turns.push(...served);
    return batch;
  }

  /** @param ran how many jobs of a batch have run in its turn */
  learn(batch: readonly QueuedJob[], ran: number): void {
    const next = ran < batch.length ? ran : Math.max(batch.length, this.#batchJobs);
    this.#batchJobs = Math.min(Math.max(2 * next, 1), JOBS_PER_MESSAGE_MAX);
  }

  /**
   * Before the job that ended a process, `jobs` others had run whose results had not left yet. They are the next batch,
   * without more: another such job behind them would take their results along again.
   */
  repeat(jobs: number): void {
    if (jobs > 0) this.#batchJobs = jobs;
  }

  /**
   * @param unfinished what of a batch has no result, in its order
   * @param used whose turn it was
   */
  putBack(unfinished: readonly QueuedJob[], used: readonly QueuedJob[]): void {
    const ran = new Set(used.map(({ group }) => group));
    for (const [group, jobs] of Map.groupBy([...unfinished].reverse(), (each) => each.group)) {
      const waiting = this.#waiting.get(group);
      if (waiting === undefined) this.#waiting.set(group, jobs.reverse());
      else waiting.unshift(...jobs.reverse());
      if (ran.has(group)) {
        if (waiting === undefined) this.#turns.push(group);
        continue;
      }
      if (waiting !== undefined) this.#turns.splice(this.#turns.indexOf(group), 1);
      this.#turns.unshift(group);
    }
  }

  /** Everything that waits, which waits no longer. */
  clear(): QueuedJob[] {
    const all = [...this.#waiting.values()].flat();
    this.#waiting.clear();
    this.#turns.length = 0;
    return all;
  }
}
