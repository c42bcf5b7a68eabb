/**
 * The workers that people register on this peer. They are kept in the store, and are there again after a restart, until
 * they are unregistered.
 */
import { FlowmeshError } from '../../dag/errors.ts';
import type { WorkerRegistration } from '../api.ts';
import { InvalidStateError } from '../errors.ts';
import { isoTime } from '../ids.ts';
import { WORKERS_MAX } from '../limits.ts';
import type { Locator } from '../lookup/locator.ts';
import type { Clock, Reader } from '../ports.ts';
import { LOCAL_FEED, type WorkerRecord } from '../records.ts';
import type { LocalFeed } from '../storage/local-feed.ts';
import { workerUid } from '../uids.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';

interface RegistryParts {
  clock: Clock;
  pool: WorkerPool;
  locator: Locator;
  reader: Reader;
  local: LocalFeed;
  /** What the workers of this peer offer has changed. */
  onChange(): void;
}

export class WorkerRegistry {
  readonly #parts: RegistryParts;
  /** Ids whose registration is under way. */
  readonly #registering = new Set<string>();

  constructor(parts: RegistryParts) {
    this.#parts = parts;
  }

  /** Loads the workers that were registered before this process. */
  async load(): Promise<void> {
    for (const record of await this.#parts.reader.active('worker', LOCAL_FEED)) {
      if (record.status !== 'offline') this.#parts.pool.define(record);
    }
  }

  /**
   * Registers a worker, or replaces the one here that has the same id. Resolves when that is durable.
   * @throws FlowmeshError TOO_MANY_WORKERS; CONFLICT when another peer has a worker with this id, or a registration of
   *   the same id is under way
   */
  async register(registration: WorkerRegistration): Promise<WorkerRecord> {
    const { worker_id } = registration;
    const { pool } = this.#parts;
    if (this.#registering.has(worker_id)) {
      throw new FlowmeshError('CONFLICT', `worker "${worker_id}" is just being registered; try again`, {
        retryable: true,
      });
    }
    if (pool.count + this.#registering.size >= WORKERS_MAX && !pool.has(worker_id)) {
      throw new FlowmeshError('TOO_MANY_WORKERS', `a peer has at most ${WORKERS_MAX} workers; unregister one first`);
    }
    this.#registering.add(worker_id);
    try {
      return await this.#write(registration);
    } finally {
      this.#registering.delete(worker_id);
    }
  }

  async #write(registration: WorkerRegistration): Promise<WorkerRecord> {
    const { clock, pool, locator, local, onChange } = this.#parts;
    const { worker_id } = registration;
    const elsewhere = await locator.resolve({ kind: 'worker', id: worker_id });
    // The id of a worker that was unregistered is free again.
    if (elsewhere !== undefined && !elsewhere.here && elsewhere.at.status !== 'offline') {
      throw new FlowmeshError(
        'CONFLICT',
        `worker "${worker_id}" exists on peer ${elsewhere.at.peer_id}; choose another id`,
      );
    }
    const record: WorkerRecord = {
      kind: 'worker',
      uid: workerUid(worker_id),
      ...registration,
      status: 'active',
      registered_at: isoTime(clock.wall()),
    };
    await local.commit((turn) => turn.put(record));
    pool.define(record);
    onChange();
    return record;
  }

  /**
   * Takes a worker out of service. Graceful: waits up to `timeout_ms` for its tasks, then hands back the rest.
   * @throws InvalidStateError when there is no such worker here
   */
  async unregister(
    worker_id: string,
    options: { graceful: boolean; timeout_ms: number },
  ): Promise<{ completed_tasks: number; abandoned_tasks: number }> {
    const { pool, local, onChange } = this.#parts;
    const record = pool.recordOf(worker_id);
    if (record === undefined) throw new InvalidStateError(`worker ${worker_id} is not registered here now`);
    const draining: WorkerRecord = { ...record, status: 'draining' };
    pool.define(draining);
    onChange();
    const { completed, abandoned } = await pool.drain(worker_id, options.graceful ? options.timeout_ms : 0);
    const ended = { completed_tasks: completed, abandoned_tasks: abandoned };
    // The worker was registered anew meanwhile, or a later call unregisters it: nothing is left for this call to do.
    if (pool.recordOf(worker_id) !== draining) return ended;
    pool.remove(worker_id);
    onChange();
    if (record.uid !== '') await local.commit((turn) => turn.put({ ...record, status: 'offline' }));
    return ended;
  }
}
