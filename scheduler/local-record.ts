/** What a peer says of a record of its own, or of a copy that it has, when somebody asks for an id. */
import { TOO_FEW_COPIES } from './errors.ts';
import type { TaskRecord, WorkflowRecord } from './records.ts';
import type { WorkerPool } from './worker.ts';

/** A record of this peer. */
export interface LocalRecord {
  uid: string;
  status: string;
  content_hash: string;
  /** It was not accepted, for too few copies, and never began: its id is free for another try, here or elsewhere. */
  refused?: true | undefined;
}

/** A record of another peer, of which a whole copy is here. */
export interface CopiedRecord extends LocalRecord {
  feed_id: string;
  owner: string;
}

export function localRecord(record: TaskRecord | WorkflowRecord): LocalRecord {
  const { uid, status, content_hash } = record;
  return { uid, status, content_hash, ...(wasRefused(record) && { refused: true }) };
}

function wasRefused({ kind, status, started_at, error }: TaskRecord | WorkflowRecord): boolean {
  return kind === 'workflow' && status === 'cancelled' && started_at === null && error?.code === TOO_FEW_COPIES;
}

export function localWorker(pool: WorkerPool, id: string): LocalRecord | undefined {
  const state = pool.states().find(({ worker_id }) => worker_id === id);
  return state === undefined ? undefined : { uid: id, status: state.status, content_hash: '' };
}
