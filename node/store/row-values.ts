/** A row as the values of the table's columns, in the order of `COLUMNS` (schema.ts). */
import type { SQLInputValue } from 'node:sqlite';
import type { ListQuery } from '../../scheduler/ports.ts';
import { type FlowRecord, indexOf, isTerminal, type Row } from '../../scheduler/records.ts';

/** A record's values that only lists and statistics ask for. */
export interface ListColumns {
  worker_id: string | null;
  peer_id: string | null;
  submitted_by: string | null;
  dead_letter: boolean;
  tags: string[] | null;
  ended_at: string | null;
  wait_ms: number | null;
  execution_ms: number | null;
}

export function listColumnsOf(record: FlowRecord): ListColumns {
  const task = record.kind === 'task' ? record : null;
  return {
    worker_id: task?.worker_id ?? null,
    peer_id: task?.peer_id ?? null,
    submitted_by: 'submitted_by' in record ? (record.submitted_by ?? null) : null,
    dead_letter: task?.dead_letter ?? false,
    tags: record.kind === 'task' || record.kind === 'workflow' ? record.tags : null,
    ended_at: task?.ended_at ?? null,
    wait_ms: task?.wait_ms ?? null,
    execution_ms: task?.execution_time_ms ?? null,
  };
}

/** A starting peer takes a record up again unless it has ended; a skipped step has ended too. */
export function isActive(status: string | null): boolean {
  return status === null || !(isTerminal(status) || status === 'skipped');
}

/**
 * Appends a row's values to `values`, and returns the bytes it counts for in limits (its JSON's length).
 *
 * @throws TypeError when the record is not JSON
 */
export function appendValues(values: SQLInputValue[], row: Row): number {
  const { alias, parent, status, priority, created_at } = indexOf(row.record);
  const listed = listColumnsOf(row.record);
  const data = row.text ?? JSON.stringify(row.record);
  values.push(row.uid, row.record.kind, alias, parent, created_at, isActive(status) ? 1 : 0, status, priority);
  values.push(listed.worker_id, listed.peer_id, listed.submitted_by, listed.dead_letter ? 1 : 0, tagText(listed.tags));
  values.push(listed.ended_at, listed.wait_ms, listed.execution_ms, row.feed_id, row.epoch, row.seq, data);
  return data.length;
}

/** JSON never contains this character unescaped, so `<separator>"tag"<separator>` is found only where a tag is. */
const TAG_SEPARATOR = '\u001f';

function tagText(tags: string[] | null): string | null {
  if (tags === null || tags.length === 0) return null;
  return TAG_SEPARATOR + tags.map((tag) => JSON.stringify(tag) + TAG_SEPARATOR).join('');
}

/** A list's filters as SQL terms over the index `listed` (`by_parent` where there is one), with their parameters. */
export function filterTerms(query: ListQuery): { sql: string; parameters: SQLInputValue[] } {
  const terms: string[] = [];
  const parameters: SQLInputValue[] = [];
  const add = (term: string, value: SQLInputValue | undefined) => {
    if (value === undefined) return;
    terms.push(` AND ${term}`);
    parameters.push(value);
  };
  add('status = ?', query.status);
  add('parent = ?', query.parent);
  add('worker_id = ?', query.worker_id);
  add('peer_id = ?', query.peer_id);
  add('submitted_by = ?', query.submitted_by);
  add('priority >= ?', query.priority_min);
  add('dead_letter = ?', query.dead_letter === undefined ? undefined : Number(query.dead_letter));
  for (const tag of query.tags ?? []) add('instr(tags, ?) > 0', tagText([tag])!);
  return { sql: terms.join(''), parameters };
}
