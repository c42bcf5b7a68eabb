/**
 * What is noticed on the mesh loop of a measured peer, without a change to the product: when each task and workflow
 * ended for good, and how much was committed and sent.
 *
 * The end of a task is the moment at which its owner acknowledges the result to the worker. By P1 that is after the
 * fsync of the owner and of as many followers as `copies` asks for: the first moment at which anyone may be told.
 */
import type { Mesh } from '../node/runtimes/mesh.ts';
import { isTerminal, type Row } from '../scheduler/records.ts';
import { nowNs } from './probes.ts';
import type { MeshFigures } from './throughput-figures.ts';

/** A task or workflow that a client submitted. */
export interface Ended {
  id: string;
  status: string;
  at_ns: bigint;
}

export type MeshCounters = Omit<MeshFigures, 'mesh' | 'store'>;

export class MeshWatch {
  readonly counters: MeshCounters = { commits: 0, rows: 0, commit_ms: 0, sent: {} };
  readonly #onEnded: (ended: Ended[]) => void;
  /** By the uid of each task whose result is being taken: what ends in the same commit. */
  readonly #acknowledged = new Map<string, Omit<Ended, 'at_ns'>[]>();

  /** Changes `mesh`: what it commits, sends and acknowledges is noticed. */
  constructor(mesh: Mesh, onEnded: (ended: Ended[]) => void) {
    this.#onEnded = onEnded;
    this.#watchStore(mesh);
    this.#watchNetwork(mesh);
    this.#watchResults(mesh);
  }

  #watchStore({ store }: Mesh): void {
    const commit = store.commit.bind(store);
    store.commit = async (rows) => {
      this.#committed(rows);
      const started = performance.now();
      await commit(rows);
      this.counters.commits++;
      this.counters.rows += rows.length;
      this.counters.commit_ms += performance.now() - started;
    };
  }

  #watchNetwork({ network }: Mesh): void {
    const { sent } = this.counters;
    const count = (method: string) => {
      sent[method] = (sent[method] ?? 0) + 1;
    };
    const request = network.request.bind(network);
    network.request = (peer, method, params, deadlineMs) => {
      count(method);
      return request(peer, method, params, deadlineMs);
    };
    const notify = network.notify.bind(network);
    network.notify = (peer, method, params) => {
      count(method);
      notify(peer, method, params);
    };
  }

  #watchResults({ scheduler }: Mesh): void {
    const { inbound } = scheduler;
    const onMessage = inbound.onMessage.bind(inbound);
    inbound.onMessage = async (peer, method, params) => {
      if (method !== 'result') return await onMessage(peer, method, params);
      const { results } = params as { results: { uid: string }[] };
      const together: Omit<Ended, 'at_ns'>[] = [];
      for (const { uid } of results) this.#acknowledged.set(uid, together);
      try {
        return await onMessage(peer, method, params);
      } finally {
        for (const { uid } of results) this.#acknowledged.delete(uid);
        const at_ns = nowNs();
        if (together.length > 0) this.#onEnded(together.map((each) => ({ ...each, at_ns })));
      }
    };
  }

  #committed(rows: readonly Row[]): void {
    const together = rows.map(({ uid }) => this.#acknowledged.get(uid)).find((found) => found !== undefined);
    for (const { record } of rows) {
      if (record.kind === 'task' && record.workflow_uid === null && isTerminal(record.status)) {
        together?.push({ id: record.task_id, status: record.status });
      } else if (record.kind === 'workflow' && isTerminal(record.status)) {
        together?.push({ id: record.workflow_id, status: record.status });
      }
    }
  }
}
