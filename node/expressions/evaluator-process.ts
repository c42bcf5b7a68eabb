/**
 * The process that evaluates: one batch at a time, its jobs one after the other, until its time is over. `argv`: the peer's pid, then the
 * running time of one job in ms. JSONata stops most expressions that run too long itself; the watching thread ends
 * the process for the others (a regular expression, one long call into native code).
 */
import { listenToPeer, sendToPeer } from '../processes/parent-channel.ts';
import { JobMark, watchParent, workedMs } from '../processes/parent-watch.ts';
import type { Batch, Job, JobResult, Results } from './evaluator-messages.ts';
import { Expressions } from './jsonata.ts';
import { FLUSH_CHARS, FLUSH_INTERVAL_MS, PATIENCE, SLICE_MS } from './limits.ts';
import { EXPRESSION_TIMEOUT } from './problems.ts';

/** What one name of an expression takes in a message. */
const NAME_CHARS = 100;

const parentPid = Number(process.argv[2]);
const timeoutMs = Number(process.argv[3]);
const mark = new JobMark();
const expressions = new Expressions(timeoutMs);
/** JSONata looks at the clock alone: for a job that has had little of its time. Then the watch is the one to end it. */
const patient = new Expressions(timeoutMs, PATIENCE * timeoutMs);

watchParent(parentPid, { mark, timeoutMs });
listenToPeer((batch) => void runBatch(batch as Batch));

async function runBatch({ jobs }: Batch): Promise<void> {
  const begun = performance.now();
  let results: JobResult[] = [];
  let chars = 0;
  let flushedAt = begun;
  for (const [index, job] of jobs.entries()) {
    const now = performance.now();
    if (index > 0 && now - begun > SLICE_MS) break;
    if (now - flushedAt > FLUSH_INTERVAL_MS || chars > FLUSH_CHARS) {
      // What is done must have left before a job that may end the process.
      send({ results, last: false });
      results = [];
      chars = 0;
      flushedAt = now;
    }
    mark.begin(index);
    const result = await runJob(job);
    mark.idle();
    results.push(result);
    chars += sizeOf(result);
  }
  send({ results, last: true });
}

/** About, in characters. */
function sizeOf(result: JobResult): number {
  if ('json' in result) return result.json.length;
  return 'names' in result ? result.names.length * NAME_CHARS : 0;
}

async function runJob(job: Job): Promise<JobResult> {
  if ('check' in job) return expressions.check(job.check);
  const worked = workedMs();
  const result = await expressions.evaluate(job);
  const isTimeout = 'error' in result && result.error.code === EXPRESSION_TIMEOUT;
  return isTimeout && workedMs() - worked < timeoutMs / 2 ? await patient.evaluate(job) : result;
}

function send(message: Results): void {
  sendToPeer(message);
}
