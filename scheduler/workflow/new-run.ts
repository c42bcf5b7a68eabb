/** The first rows of a workflow that was accepted: its record and its definition. Pure. */
import type { Workflow } from '../../dag/schema.ts';
import type { FlowRecord, TaskRecord, WorkflowRecord } from '../records.ts';
import { definitionUid } from '../uids.ts';

/** What the record of a new workflow has that its definition does not say. */
export interface NewRun {
  /** Hash of the submission without its id; empty for a nested workflow, which nobody submits twice. */
  content_hash: string;
  /** On how many disks its rows are wanted. */
  copies: number;
  /** Whether it may begin only once its rows are on that many disks. */
  awaits_copies: boolean;
  /** The task that a nested workflow is the work of. */
  parent: TaskRecord | null;
  /** Whose it is; that of a nested one belongs to whom its parent does. */
  submitted_by?: string | undefined;
}

/** @param created_at ISO time */
export function newRun(
  workflow: Workflow & { workflow_id: string },
  { content_hash, copies, awaits_copies, parent, submitted_by = parent?.submitted_by }: NewRun,
  uid: string,
  created_at: string,
): { record: WorkflowRecord; definition: Extract<FlowRecord, { kind: 'definition' }> } {
  const { workflow_id, name, priority, tags, metadata, dependencies, steps } = workflow;
  const record: WorkflowRecord = {
    kind: 'workflow',
    uid,
    workflow_id,
    name,
    status: 'submitted',
    priority,
    tags,
    metadata,
    dependencies,
    content_hash,
    parent_task_uid: parent?.uid ?? null,
    ...(submitted_by !== undefined && { submitted_by }),
    copies,
    awaits_copies,
    steps_total: steps.length,
    steps_ended: 0,
    progress: 0,
    current_step: null,
    result: null,
    error: null,
    created_at,
    started_at: null,
    ended_at: null,
    execution_time_ms: null,
  };
  return { record, definition: { kind: 'definition', uid: definitionUid(uid), workflow } };
}
