/**
 * Simulated peers under the real scheduler, driven by hand: time passes only while a test waits for something.
 *
 *   const scene = await Scene.of(['a', 'b']);
 *   const { record } = await scene.run(scene.scheduler('a').submitTask(task({ task_type: 'echo' })));
 *   await scene.until('it ends', () => scene.at('a').ended(record.uid));
 */
import type { JsonValue } from '../../dag/errors.ts';
import { parseWorkflow, requiresSchema, retrySchema } from '../../dag/schema.ts';
import type { TaskSubmission, WorkflowSubmission } from '../../scheduler/api.ts';
import type { OwnedFeed } from '../../scheduler/feed/owned-feed.ts';
import type { TaskRecord, WorkflowRecord } from '../../scheduler/records.ts';
import { isTerminal } from '../../scheduler/records.ts';
import type { Scheduler } from '../../scheduler/scheduler.ts';
import { SimulatedMesh, type SimulatedMeshOptions, type SimulatedPeer } from '../simulation/mesh.ts';
import type { World } from '../simulation/world.ts';

/** Simulated: more than any bound of the scheduler that a test waits for. */
const PATIENCE_MS = 600_000;
const STEP_MS = 5;
const SEED = 11;
const ACTIVITY_MS = 2_000;

export class Scene {
  readonly mesh: SimulatedMesh;

  constructor(options: SimulatedMeshOptions = {}) {
    this.mesh = new SimulatedMesh(SEED, options);
  }

  /** Started peers that know each other. */
  static async of(names: readonly string[], options: SimulatedMeshOptions & { slots?: number } = {}): Promise<Scene> {
    const scene = new Scene(options);
    for (const name of names) await scene.mesh.start(name, { slots: options.slots ?? 4 });
    if (names.length > 1) await scene.pass(ACTIVITY_MS);
    return scene;
  }

  get world(): World {
    return this.mesh.world;
  }

  peer(name: string): SimulatedPeer {
    return this.mesh.peers.get(name)!;
  }

  scheduler(name: string): Scheduler {
    return this.peer(name).scheduler;
  }

  /** The feed of a peer's new work. */
  feed(name: string): OwnedFeed {
    return this.scheduler(name).parts.main.feed!;
  }

  /** How far the disk of a peer has come in that feed. */
  head(name: string): number {
    return this.peer(name).store.feeds.get(this.feed(name).feed_id)!.seq;
  }

  async pass(ms: number): Promise<void> {
    await this.world.run(this.world.now + ms);
  }

  /** Lets time pass until the promise settles. */
  async run<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const note = () => {
      settled = true;
    };
    promise.then(note, note);
    if (!(await this.world.run(this.world.now + PATIENCE_MS, () => settled))) {
      throw new Error(`the promise does not settle within ${PATIENCE_MS} simulated ms`);
    }
    return await promise;
  }

  /** Lets time pass until the condition holds. */
  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const end = this.world.now + PATIENCE_MS;
    while (!(await condition())) {
      if (this.world.now >= end) throw new Error(`${what}: not within ${PATIENCE_MS} simulated ms`);
      await this.world.run(this.world.now + STEP_MS);
    }
  }

  async submit(name: string, submission: TaskSubmission): Promise<TaskRecord> {
    return (await this.run(this.scheduler(name).api.submitTask(submission))).record;
  }

  async submitWorkflow(name: string, value: JsonValue): Promise<WorkflowRecord> {
    return (await this.run(this.scheduler(name).api.submitWorkflow(workflow(value)))).record;
  }

  /** What is on the disk of a peer. */
  async task(name: string, uid: string): Promise<TaskRecord> {
    return (await this.peer(name).store.reader.get('task', uid))!;
  }

  async workflow(name: string, uid: string): Promise<WorkflowRecord> {
    return (await this.peer(name).store.reader.get('workflow', uid))!;
  }

  /** The task as it ended. */
  async ended(name: string, uid: string): Promise<TaskRecord> {
    await this.until(`task ${uid} ends`, async () => isTerminal((await this.task(name, uid)).status));
    return await this.task(name, uid);
  }

  async endedWorkflow(name: string, uid: string): Promise<WorkflowRecord> {
    await this.until(`workflow ${uid} ends`, async () => isTerminal((await this.workflow(name, uid)).status));
    return await this.workflow(name, uid);
  }

  /** A peer whose store was read anew has asked whoever has copies, and goes on with its feed. */
  async ownsAgain(name: string): Promise<void> {
    await this.until(`${name} owns its feed`, () => this.scheduler(name).parts.main.feed !== undefined);
  }

  /** Kills a peer and starts it again on its disk. */
  async restart(name: string): Promise<void> {
    const disk = this.mesh.kill(name);
    await this.run(this.mesh.restart(name, disk));
  }
}

export function task(over: Partial<TaskSubmission> = {}): TaskSubmission {
  return {
    task_id: undefined,
    task_type: 'fn:work',
    payload: {},
    priority: 1,
    tags: [],
    timeout_ms: undefined,
    retry: retrySchema.parse({}),
    delay_ms: undefined,
    deadline: undefined,
    requires: requiresSchema.parse({}),
    depends_on: [],
    at_most_once: false,
    metadata: {},
    ...over,
  };
}

export function workflow(value: JsonValue): WorkflowSubmission {
  return { workflow: parseWorkflow(value), copies: undefined, require_copies: false };
}

/** Something that a test lets happen when it wants. */
export interface Gate {
  readonly opened: Promise<void>;
  open(): void;
}

export function gate(): Gate {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { opened: promise, open: resolve };
}
