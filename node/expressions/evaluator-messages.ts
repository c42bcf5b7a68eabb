/** What a peer and its evaluating processes say to each other. */
import type { ErrorShape } from '../../dag/errors.ts';
import type { CheckedExpression, EvaluationJob } from '../../scheduler/ports.ts';

export type Job = { check: string } | EvaluationJob;
export type JobResult = CheckedExpression | { json: string } | { error: ErrorShape };

/** To the process: run these, in order. Scopes that share parts share them on the wire too. */
export interface Batch {
  jobs: Job[];
}

/** From the process: the results of the batch's next jobs. */
export interface Results {
  results: JobResult[];
  /** No other result follows: the others of the batch have not run, its time was over. */
  last: boolean;
}
