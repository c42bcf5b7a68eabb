/**
 * The clients of a simulated mesh. They know ids and peers, nothing else, and ask through whichever peer they like. A
 * submit whose answer was lost is made again, with the same id and content, at another peer; one whose id the mesh was
 * to make, or that must not be started twice, is given up.
 */
import { errorShape, FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { WHOLE } from '../../tools/cut.ts';
import { type Handle, type LoadOptions, someTask, someWorkflow, type Work } from './load.ts';
import type { SimulatedMesh } from './mesh.ts';
import type { Oracle } from './oracle.ts';

/** How long a client waits for an answer. */
const PATIENCE_MS = 40_000;
/** Some that may submit again do so sooner: while the first peer stands still, or its answer waits for copies. */
const IMPATIENT = { share: 0.3, ms: { from: 500, to: 6_000 } };
const TRIES_MAX = 12;
const PERSON_EVERY_MS = 150;
/** Errors that say that nothing was done and that another try may succeed. */
const NOT_DONE = new Set(['CONNECTION_REFUSED', 'NOT_READY', 'PEER_STOPPED']);

export interface ClientOptions extends LoadOptions {
  /** What has ended badly is removed now and then, so nobody waits for what another has submitted. */
  clears: boolean;
}

export class Clients {
  readonly #mesh: SimulatedMesh;
  readonly #oracle: Oracle;
  readonly handles: Handle[] = [];
  /** Submits that nobody accepted. */
  refused = 0;
  /** Submits without an answer yet, and looks: one whose answer comes late may still run a task once more. */
  waiting = 0;
  readonly #known = { task: [] as string[], workflow: [] as string[] };
  readonly #options: ClientOptions;
  #pausing = true;

  constructor(mesh: SimulatedMesh, oracle: Oracle, options: ClientOptions) {
    this.#options = options;
    this.#mesh = mesh;
    this.#oracle = oracle;
  }

  /** @param piece the number of this piece of work, of no other */
  async submit(kind: Work['kind'], piece: number): Promise<void> {
    const { random } = this.#mesh.world;
    const known = this.#options.clears ? [] : this.#known[kind];
    const work =
      kind === 'task'
        ? someTask(random, piece, known, this.#options)
        : someWorkflow(random, piece, known, this.#options);
    this.waiting++;
    try {
      await this.#submitUntilAnswered(work);
    } catch (error) {
      this.refused++;
      this.#oracle.refused(work, errorShape(error));
    } finally {
      this.waiting--;
    }
  }

  async #submitUntilAnswered(work: Work): Promise<void> {
    const { random } = this.#mesh.world;
    const mayRepeat = work.id !== undefined && !work.atMostOnce;
    let repeated = false;
    for (let tries = 1; ; tries++) {
      const { share, ms } = IMPATIENT;
      const patienceMs = mayRepeat && random.chance(share) ? random.between(ms.from, ms.to) : PATIENCE_MS;
      try {
        const answer = await this.#ask(`${work.kind}_submit`, work.input, this.#somePeer(), patienceMs);
        this.#accepted({ work, id: String(answer[`${work.kind}_id`]), repeated, cancel: 'no' }, answer);
        return;
      } catch (error) {
        const { code, retryable } = errorShape(error);
        const isDone = !NOT_DONE.has(code);
        if (!retryable || tries === TRIES_MAX) throw error;
        if (isDone && !mayRepeat) throw error;
        repeated ||= isDone;
        await this.#pass(random.between(100, 2_000));
      }
    }
  }

  #accepted(handle: Handle, answer: JsonObject): void {
    const { copies } = answer['durability'] as unknown as { copies: number };
    this.#oracle.accepted(handle, copies, String(answer['owner_peer_id']));
    this.handles.push(handle);
    if (handle.work.id !== undefined && !handle.repeated) this.#known[handle.work.kind].push(handle.id);
  }

  /** Somebody does not want the result any more. */
  async cancel(): Promise<void> {
    const { random } = this.#mesh.world;
    const handle = this.#somebodys();
    if (handle === undefined || handle.repeated) return;
    const { kind } = handle.work;
    if (handle.cancel === 'no') handle.cancel = 'asked';
    const answer = await this.#tryTo(`${kind}_cancel`, { [`${kind}_id`]: handle.id, force: random.chance(0.5) });
    if (answer?.['status'] !== 'cancelled') return;
    handle.cancel = 'confirmed';
    this.#oracle.confirmed(kind, handle.id, 'cancelled');
  }

  /** Somebody looks how it goes, and runs a task once more that has failed. */
  async look(): Promise<void> {
    const handle = this.#somebodys();
    if (handle === undefined) return;
    const { kind } = handle.work;
    this.waiting++;
    const answer = await this.#tryTo(`${kind}_result`, { [`${kind}_id`]: handle.id, ...WHOLE });
    if (answer !== undefined) {
      this.#oracle.seen(handle, answer);
      if (kind === 'task' && answer['status'] === 'failed' && !handle.work.atMostOnce) await this.#retry(handle);
    }
    this.waiting--;
  }

  async #retry({ work, id }: Handle): Promise<void> {
    const answer = await this.#tryTo('task_retry', { task_id: id, retry_config: { max_retries: 5 } });
    if (answer === undefined) return;
    const retryId = String(answer['retry_task_id']);
    // Somebody else may have run it again on the other side of a partition, and may have cancelled that.
    const known = this.handles.find((each) => each.work === work && each.id === retryId);
    const handle: Handle = known ?? { work, id: retryId, repeated: false, cancel: 'no' };
    this.#oracle.accepted(handle, 1);
    if (known === undefined) this.handles.push(handle);
  }

  /** Somebody removes what has failed or was cancelled at some peer. */
  async clear(): Promise<void> {
    const status_filter = this.#mesh.world.random.pick(['failed', 'cancelled', 'dead_letter']);
    await this.#tryTo('queue_clear', { confirm: true, status_filter });
  }

  /** Somebody pauses a queue for a moment, and puts a task before the others. */
  async pause(): Promise<void> {
    const { random } = this.#mesh.world;
    await this.#tryTo('queue_pause', { reason: 'simulated' });
    const tasks = this.handles.filter(({ work }) => work.kind === 'task');
    if (tasks.length === 0) return;
    await this.#tryTo('task_priority', { task_id: random.pick(tasks).id, boost: 5, requeue: random.chance(0.5) });
  }

  /** A person who looks at the peers in turn, agrees to all that is asked, and resumes what is paused. */
  attend(): void {
    const { world } = this.#mesh;
    world.at(PERSON_EVERY_MS, () => this.attend());
    const peer = this.#somePeer();
    if (peer === undefined) return;
    if (!this.#pausing || world.random.chance(0.1)) void this.#tryTo('queue_resume', {}, peer);
    void this.#agree(peer);
  }

  /** Nobody pauses any more, and every queue is resumed. */
  stopPausing(): void {
    this.#pausing = false;
  }

  async #agree(peer: string): Promise<void> {
    const list = await this.#tryTo('task_list', { status_filter: 'input_required', limit: 4, scope: 'local' }, peer);
    for (const { task_id } of (list?.['tasks'] ?? []) as { task_id: string }[]) {
      const answer = await this.#tryTo('task_answer', { task_id, approve: true });
      // `pending`: kept for the next owner.
      if (answer?.['status'] === 'completed') this.#oracle.confirmed('task', task_id, 'completed');
    }
  }

  #somebodys(): Handle | undefined {
    return this.handles.length === 0 ? undefined : this.#mesh.world.random.pick(this.handles);
  }

  /** Undefined: it was refused, or nobody answered. */
  async #tryTo(tool: string, input: JsonObject, peer = this.#somePeer()): Promise<JsonObject | undefined> {
    try {
      return await this.#ask(tool, input, peer);
    } catch (error) {
      this.#oracle.failed(tool, errorShape(error));
      return undefined;
    }
  }

  async #ask(tool: string, input: JsonObject, peer = this.#somePeer(), patienceMs = PATIENCE_MS): Promise<JsonObject> {
    if (peer === undefined) throw new FlowmeshError('CONNECTION_REFUSED', 'no peer runs', { retryable: true });
    const { world } = this.#mesh;
    const { promise, resolve, reject } = Promise.withResolvers<JsonObject>();
    const stopWaiting = world.at(patienceMs, () =>
      reject(new FlowmeshError('NO_ANSWER', `${peer} does not answer ${tool}`, { retryable: true })),
    );
    this.#mesh.call(peer, tool, input).then(resolve, reject);
    const asked = () => `${tool} ${JSON.stringify(input).slice(0, 100)} at ${peer}`;
    try {
      const answer = await promise;
      world.note(() => `${asked()}: ${JSON.stringify(answer).slice(0, 200)}`);
      return answer;
    } catch (error) {
      world.note(() => `${asked()}: ${error}`);
      throw error;
    } finally {
      stopWaiting();
    }
  }

  /** One that runs, as far as clients know. */
  #somePeer(): string | undefined {
    const names = [...this.#mesh.peers.values()].filter(({ alive }) => alive).map(({ peer_id }) => peer_id);
    return names.length === 0 ? undefined : this.#mesh.world.random.pick(names);
  }

  #pass(ms: number): Promise<void> {
    return new Promise((resolve) => this.#mesh.world.at(ms, resolve));
  }
}
