/**
 * Changes of tasks and workflows that were accepted: cancel, answer, priority. A record that has ended is never
 * changed: the call throws InvalidStateError (P5). Every call throws ReadOnlyError when this peer does not own the
 * record, and resolves when the change is durable (P1).
 */
import { boundedError, type JsonValue } from '../../dag/errors.ts';
import { checkBytes, INPUT_BYTES_MAX, PRIORITY_MAX } from '../../dag/limits.ts';
import { InvalidStateError } from '../errors.ts';
import type { FeedTable } from '../feed/feed-table.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import type { Lifecycle } from '../lifecycle.ts';
import type { Reader } from '../ports.ts';
import type { TaskRecord, WorkflowRecord } from '../records.ts';

export type PriorityChange = { new_priority: number } | { boost: number } | { demote: number };

interface ChangeParts {
  reader: Reader;
  feeds: FeedTable;
  /** Until it is ready, memory says nothing about the records in the store. */
  lifecycle: Lifecycle;
}

export class Change {
  readonly #parts: ChangeParts;

  constructor(parts: ChangeParts) {
    this.#parts = parts;
  }

  /** @returns also the ids of the steps that are cancelled by this; running tasks may end later */
  async cancelWorkflow(
    uid: string,
    options: { reason: string | undefined; force: boolean },
  ): Promise<{ record: WorkflowRecord; cancelled_steps: string[] }> {
    this.#parts.lifecycle.mustBeReady();
    const feed = this.#parts.feeds.mustOwn(await this.#parts.feeds.of(uid));
    if (!feed.runs.live.has(uid)) {
      const record = await this.#parts.reader.get('workflow', uid);
      throw new InvalidStateError(`workflow ${record?.workflow_id ?? uid} is ${record?.status ?? 'gone'} already`, {
        status: record?.status ?? null,
      });
    }
    return await feed.journal.turn((turn) => {
      const live = feed.runs.live.get(uid);
      if (live === undefined) throw new InvalidStateError('the workflow has just ended; read its result');
      const message = options.reason === undefined ? 'cancelled by a client' : `cancelled: ${options.reason}`;
      const error = { code: 'CANCELLED', message, retryable: false };
      const cancelled_steps = feed.runs.cancel(turn, live, error, options.force);
      return { record: live.record, cancelled_steps };
    });
  }

  /** The feed of a task that has not ended. */
  async #liveTask(uid: string): Promise<OwnedFeed> {
    this.#parts.lifecycle.mustBeReady();
    const feed = this.#parts.feeds.mustOwn(await this.#parts.feeds.of(uid));
    if (feed.tasks.live.has(uid)) return feed;
    const record = await this.#parts.reader.get('task', uid);
    throw new InvalidStateError(`task ${record?.task_id ?? uid} is ${record?.status ?? 'gone'} already`, {
      status: record?.status ?? null,
    });
  }

  /** @returns also whether a worker had the task, and has to clean up */
  async cancelTask(
    uid: string,
    options: { reason: string | undefined; force: boolean },
  ): Promise<{ record: TaskRecord; cleanup_required: boolean }> {
    const { tasks, journal } = await this.#liveTask(uid);
    return await journal.turn((turn) => {
      const task = tasks.mustBeLive(uid);
      const cleanup_required = tasks.cancel(turn, task, options.reason, options.force);
      return { record: task.record, cleanup_required };
    });
  }

  /** A yes completes a task that waits for a person, a no fails it with REJECTED. @throws LimitError for the data */
  async answerTask(uid: string, answer: { approve: boolean; data: JsonValue }): Promise<TaskRecord> {
    checkBytes(answer.data, 'INPUT_BYTES_MAX', INPUT_BYTES_MAX, 'The data of the answer');
    const { tasks, journal } = await this.#liveTask(uid);
    return await journal.turn((turn) => {
      const task = tasks.mustBeLive(uid);
      if (task.record.status !== 'input_required') {
        throw new InvalidStateError(`task ${task.record.task_id} is ${task.record.status} and waits for no answer`, {
          status: task.record.status,
        });
      }
      if (answer.approve) {
        tasks.finish(turn, task, { status: 'completed', output: { approved: true, data: answer.data } });
      } else {
        const error = boundedError({
          code: 'REJECTED',
          message: 'the request was rejected',
          retryable: false,
          details: { data: answer.data },
        });
        tasks.fail(turn, task, error, false);
      }
      return task.record;
    });
  }

  /** The new priority is cut to 0 … PRIORITY_MAX. @returns also the place in the queue; null for a task not in it */
  async setPriority(
    uid: string,
    change: PriorityChange,
    options: { requeue: boolean },
  ): Promise<{ old_priority: number; new_priority: number; new_queue_position: number | null }> {
    const { tasks, journal } = await this.#liveTask(uid);
    return await journal.turn((turn) => {
      const task = tasks.mustBeLive(uid);
      const old = task.record.priority;
      const wanted =
        'new_priority' in change ? change.new_priority : 'boost' in change ? old + change.boost : old - change.demote;
      const next = Math.min(Math.max(wanted, 0), PRIORITY_MAX);
      tasks.setPriority(turn, task, next, options.requeue);
      return { old_priority: old, new_priority: next, new_queue_position: tasks.queue.position(uid) };
    });
  }
}
