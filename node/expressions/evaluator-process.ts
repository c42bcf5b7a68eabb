/**
 * The process that evaluates: one batch at a time, its jobs one after the other. `argv`: the peer's pid, then the
 * running time of one job in ms. JSONata stops most expressions that run too long itself; the watching thread ends
 * the process for the others (a regular expression, one long call into native code).
 */
import { setImmediate as turn } from 'node:timers/promises';
import { listenToPeer, sendToPeer } from '../executors/parent-channel.ts';
import { JobMark, watchParent } from '../executors/parent-watch.ts';
import type { Batch, Job, JobResult, Results } from './evaluator-messages.ts';
import { Expressions } from './jsonata.ts';
import { FLUSH_INTERVAL_MS } from './limits.ts';

const parentPid = Number(process.argv[2]);
const timeoutMs = Number(process.argv[3]);
const mark = new JobMark();
const expressions = new Expressions(timeoutMs);

watchParent(parentPid, { mark, timeoutMs });
listenToPeer((batch) => void runBatch(batch as Batch));

async function runBatch({ jobs }: Batch): Promise<void> {
  let results: JobResult[] = [];
  let flushedAt = performance.now();
  for (const [index, job] of jobs.entries()) {
    if (performance.now() - flushedAt > FLUSH_INTERVAL_MS) {
      // What is done must have left before a job that may end the process.
      send({ results });
      await turn();
      results = [];
      flushedAt = performance.now();
    }
    mark.begin(index);
    results.push(await runJob(job));
    mark.idle();
  }
  send({ results });
}

async function runJob(job: Job): Promise<JobResult> {
  return 'check' in job ? expressions.check(job.check) : await expressions.evaluate(job);
}

function send(message: Results): void {
  sendToPeer(message);
}
