/** Two sides of a partition go on with one feed; after the heal there is one answer for each root (P5). */
import { describe, expect, test } from 'vitest';
import type { JsonValue } from '../../../dag/errors.ts';
import { contentHash } from '../../../scheduler/ids.ts';
import { COPY_WAIT_MS } from '../../../scheduler/limits.ts';
import {
  isTerminal,
  type LogRecord,
  type SupersededRecord,
  type TaskRecord,
  type WorkflowRecord,
} from '../../../scheduler/records.ts';
import { currentLine } from '../../../scheduler/storage/feed-lines.ts';
import { MemoryStore } from '../../simulation/memory-store.ts';
import { HandPeer, tokenOf } from '../hand-peer.ts';
import { HeldDisk } from '../held-disk.ts';
import { taskRecord } from '../records.ts';
import { Scene, task, workflow } from '../scene.ts';

const BEAT_MS = 1_000;
const approve = (step_id: string, over: object = {}) => ({ step_id, action: 'approve', ...over });

/** Two peers; `loser` made the feed, and `winner` takes it over while they do not hear each other. */
class Sides {
  readonly scene: Scene;
  readonly feedId: string;
  readonly loser = 'a';
  readonly winner = 'b';

  private constructor(scene: Scene) {
    this.scene = scene;
    this.feedId = scene.feed('a').feed_id;
  }

  static async open(disk = new MemoryStore()): Promise<Sides> {
    const scene = new Scene();
    // Disks that let a task that had ended on one side end as on the other one, with its workflow as a whole.
    await scene.run(scene.mesh.start('a', { store: new MemoryStore() }));
    await scene.run(scene.mesh.start('b', { store: disk }));
    await scene.until('b counts', () => scene.feed('a').replicas.copies === 2);
    return new Sides(scene);
  }

  #owned(name: string) {
    return this.scene.scheduler(name).parts.feeds.get(this.feedId);
  }

  async part(): Promise<void> {
    this.scene.mesh.board.cut('a', 'b');
    await this.scene.until('both own it', () => this.#owned('a') !== undefined && this.#owned('b') !== undefined);
  }

  async heal(): Promise<void> {
    this.scene.mesh.board.heal('a', 'b');
    await this.scene.until('a has given way and follows', () => {
      const copy = this.scene.scheduler('a').parts.followed.find(this.feedId);
      return this.#owned('a') === undefined && copy?.feed?.lines.length === 2;
    });
    await this.scene.pass(BEAT_MS);
    expect(this.#owned('b')).toBeDefined();
    expect(this.scene.mesh.failures).toEqual([]);
  }

  async submit(value: JsonValue): Promise<string> {
    const { record } = await this.scene.run(
      this.scene.scheduler('a').api.submitWorkflow({ ...workflow(value), copies: 2 }),
    );
    await this.scene.pass(100);
    return record.uid;
  }

  async answer(name: string, uid: string, data: JsonValue, isApproved = true): Promise<void> {
    await this.scene.run(this.scene.scheduler(name).api.answerTask(uid, { approve: isApproved, data }));
    await this.scene.pass(100);
  }

  workflow(name: string, uid: string): Promise<WorkflowRecord> {
    return this.scene.workflow(name, uid);
  }

  task(name: string, uid: string): Promise<TaskRecord> {
    return this.scene.task(name, uid);
  }

  superseded(uid: string): Promise<SupersededRecord[]> {
    return this.scene.peer(this.winner).store.reader.children('superseded', uid);
  }

  get copies(): number {
    return this.#owned(this.winner)!.replicas.copies;
  }

  get live(): { tasks: number; runs: number } {
    const { tasks, runs } = this.#owned(this.winner)!;
    return { tasks: tasks.live.size, runs: runs.live.size };
  }

  /** Everything that the winner has of a root is at the loser, too. */
  async expectOneAnswer(): Promise<void> {
    const rows = async (name: string) => {
      const all = await this.scene.peer(name).store.reader.changes(this.feedId, { seq: 0, uid: '' }, 2 ** 30);
      return all.map(({ seq, record }) => ({ seq, record }));
    };
    await this.scene.until('the copy has come as far', async () => {
      const [mine, theirs] = [await rows(this.winner), await rows(this.loser)];
      return mine.at(-1)!.seq === theirs.at(-1)?.seq;
    });
    expect(await rows(this.loser)).toEqual(await rows(this.winner));
  }
}

describe('a root that the other side does not know', () => {
  test('is taken over as it is, and goes on there', async () => {
    const sides = await Sides.open();
    await sides.part();
    const uid = await sides.submit({ name: 'w', steps: [approve('s')] });
    await sides.heal();
    expect((await sides.workflow('b', uid)).status).toBe('input_required');
    await sides.answer('b', `${uid}/s/0`, 'yes');
    expect(await sides.workflow('b', uid)).toMatchObject({ status: 'completed', result: { s: { data: 'yes' } } });
    await sides.expectOneAnswer();
  });

  test('and has ended is known there with its result', async () => {
    const sides = await Sides.open();
    await sides.part();
    const { uid } = await sides.scene.submit('a', task({ payload: { x: 1 } }));
    await sides.scene.ended('a', uid);
    await sides.heal();
    expect(await sides.task('b', uid)).toMatchObject({ status: 'completed', output: { x: 1 } });
    await sides.expectOneAnswer();
  });

  test('and runs at a worker of both sides is not called back, and goes on there', async () => {
    const sides = await Sides.open();
    const worker = await HandPeer.joins(sides.scene, 'h', ['a', 'b']);
    await sides.part();
    const payload = { x: 1 };
    const { uid } = await sides.scene.submit('a', task({ task_type: 'fn:hand', payload, at_most_once: true }));
    const lease = await worker.leased(1);
    worker.holding = [tokenOf(lease)];
    await worker.beat('b');
    sides.scene.mesh.board.heal('a', 'b');
    await sides.scene.until('b has its record', async () => (await sides.task('b', uid)) !== undefined);
    expect(worker.cancels).toEqual([]);
    await worker.result('b', lease, { output: 'done', granted_by: 'a', payload_hash: contentHash(payload) });
    expect(await sides.task('b', uid)).toMatchObject({ status: 'completed', output: 'done', attempt: 1 });
  });

  test('and is nested goes on as a whole', async () => {
    const sides = await Sides.open();
    await sides.part();
    const inner = { name: 'inner', steps: [approve('s')] };
    const uid = await sides.submit({
      name: 'outer',
      steps: [{ step_id: 'n', action: 'workflow', inputs: { workflow: inner } }],
    });
    await sides.heal();
    expect(sides.live.runs).toBe(2);
    const [nested] = await sides.scene.peer('b').store.reader.children('workflow', `${uid}/n/0`);
    await sides.answer('b', `${nested!.uid}/s/0`, 'yes');
    expect((await sides.workflow('b', uid)).status).toBe('completed');
    expect(sides.live).toEqual({ tasks: 0, runs: 0 });
    await sides.expectOneAnswer();
  });

  test('and is a task that is a workflow goes on as a whole', async () => {
    const sides = await Sides.open();
    await sides.part();
    const payload = { workflow: { name: 'inner', steps: [approve('s')] } };
    const { uid } = await sides.scene.submit('a', task({ task_type: 'workflow', payload }));
    await sides.scene.pass(100);
    await sides.heal();
    expect(sides.live).toEqual({ tasks: 2, runs: 1 });
    const [nested] = await sides.scene.peer('b').store.reader.children('workflow', uid);
    await sides.answer('b', `${nested!.uid}/s/0`, 'yes');
    expect((await sides.task('b', uid)).status).toBe('completed');
    expect(sides.live).toEqual({ tasks: 0, runs: 0 });
    await sides.expectOneAnswer();
  });

  test('and waits for a record of the other side sees it end', async () => {
    const sides = await Sides.open();
    const first = await sides.submit({ workflow_id: 'first', name: 'w', steps: [approve('s')] });
    await sides.part();
    const uid = await sides.submit({ name: 'v', dependencies: ['first'], steps: [{ step_id: 's', action: 'echo' }] });
    await sides.heal();
    await sides.answer('b', `${first}/s/0`, null);
    expect((await sides.scene.endedWorkflow('b', uid)).status).toBe('completed');
  });
});

describe('a root that has ended on one side', () => {
  test('there has ended everywhere, as a whole', async () => {
    const sides = await Sides.open();
    const uid = await sides.submit({ name: 'w', steps: [approve('s'), approve('t', { depends_on: ['s'] })] });
    await sides.part();
    await sides.answer('a', `${uid}/s/0`, 1);
    await sides.answer('a', `${uid}/t/0`, 2);
    await sides.heal();
    expect(await sides.workflow('b', uid)).toMatchObject({ status: 'completed', result: { t: { data: 2 } } });
    expect(await sides.task('b', `${uid}/s/0`)).toMatchObject({ status: 'completed', output: { data: 1 } });
    expect(sides.live).toEqual({ tasks: 0, runs: 0 });
    await sides.expectOneAnswer();
  });

  test('has what the other side did of it kept as superseded, and nothing runs for it any more', async () => {
    const sides = await Sides.open();
    const uid = await sides.submit({
      name: 'w',
      steps: [approve('s'), { step_id: 'long', action: 'fn:work', depends_on: ['s'], inputs: { ms: 600_000 } }],
    });
    await sides.part();
    await sides.answer('b', `${uid}/s/0`, 'of b');
    await sides.scene.until('it runs at b', () => sides.scene.scheduler('b').parts.pool.running === 1);
    await sides.scene.run(sides.scene.scheduler('a').api.cancelWorkflow(uid, { reason: 'enough', force: false }));
    await sides.heal();
    expect(await sides.workflow('b', uid)).toMatchObject({
      status: 'cancelled',
      error: { message: 'cancelled: enough' },
    });
    const kept = await sides.superseded(uid);
    expect(kept.map(({ record }) => [record.uid, (record as TaskRecord).status])).toEqual([
      [`${uid}/s/0`, 'completed'],
    ]);
    await sides.scene.until('nothing runs', () => sides.scene.scheduler('b').parts.pool.running === 0);
    expect(sides.live).toEqual({ tasks: 0, runs: 0 });
    const tasks = await sides.scene.peer('b').store.reader.children('task', uid);
    for (const { status } of tasks) expect(isTerminal(status)).toBe(true);
    await sides.expectOneAnswer();
  });

  test('has what the other side did kept also when it is on its way to the disk', async () => {
    const disk = new HeldDisk();
    const sides = await Sides.open(disk);
    const uid = await sides.submit({ name: 'w', steps: [approve('s'), approve('t')] });
    await sides.part();
    const { scene } = sides;
    await scene.run(scene.scheduler('a').api.cancelWorkflow(uid, { reason: 'enough', force: false }));
    disk.hold();
    const answered = scene.scheduler('b').api.answerTask(`${uid}/s/0`, { approve: true, data: 'b' });
    scene.mesh.board.heal('a', 'b');
    await scene.pass(5 * BEAT_MS);
    disk.release();
    await scene.run(answered);
    await sides.heal();
    expect((await sides.workflow('b', uid)).status).toBe('cancelled');
    expect((await sides.superseded(uid)).map(({ record }) => record.uid)).toEqual([`${uid}/s/0`]);
    await sides.expectOneAnswer();
  });

  test('the one that stays, keeps its end; what was open on the other side changes nothing', async () => {
    const sides = await Sides.open();
    const uid = await sides.submit({ name: 'w', steps: [approve('s'), approve('t')] });
    await sides.part();
    await sides.answer('b', `${uid}/s/0`, 'b');
    await sides.answer('b', `${uid}/t/0`, 'b');
    await sides.answer('a', `${uid}/s/0`, 'a');
    await sides.heal();
    expect(await sides.workflow('b', uid)).toMatchObject({ status: 'completed', result: { s: { data: 'b' } } });
    const kept = await sides.superseded(uid);
    expect(kept.map(({ record }) => record.uid)).toEqual([`${uid}/s/0`]);
    await sides.expectOneAnswer();
  });

  test('has its nested workflows there too, and none of the other side’s are left open', async () => {
    const sides = await Sides.open();
    const inner = { name: 'inner', steps: [approve('s')] };
    const uid = await sides.submit({
      name: 'outer',
      steps: [
        approve('first'),
        { step_id: 'n', action: 'workflow', depends_on: ['first'], inputs: { workflow: inner } },
      ],
    });
    await sides.part();
    const nestedOf = async (name: string) => {
      await sides.answer(name, `${uid}/first/0`, name);
      return (await sides.scene.peer(name).store.reader.children('workflow', `${uid}/n/0`))[0]!.uid;
    };
    const [mine, theirs] = [await nestedOf('a'), await nestedOf('b')];
    expect(mine).not.toBe(theirs);
    await sides.answer('a', `${mine}/s/0`, 'a');
    await sides.heal();
    expect((await sides.workflow('b', uid)).status).toBe('completed');
    expect((await sides.workflow('b', mine)).status).toBe('completed');
    expect(await sides.workflow('b', theirs)).toBeUndefined();
    expect(sides.live).toEqual({ tasks: 0, runs: 0 });
    await sides.expectOneAnswer();
  });
});

describe('a root that has ended on both sides', () => {
  test('ends as on the side that stays; the other end is kept as superseded', async () => {
    const sides = await Sides.open();
    const uid = await sides.submit({ name: 'w', steps: [approve('s')] });
    await sides.part();
    await sides.answer('a', `${uid}/s/0`, 'of a');
    await sides.answer('b', `${uid}/s/0`, 'of b');
    await sides.heal();
    expect(await sides.workflow('b', uid)).toMatchObject({ status: 'completed', result: { s: { data: 'of b' } } });
    const kept = await sides.superseded(uid);
    expect(kept.map(({ record }) => record.uid).sort()).toEqual([uid, `${uid}/s/0`]);
    expect(kept.every(({ line }) => line.owner === 'a')).toBe(true);
    const lost = kept.find(({ record }) => record.uid === uid)!.record as WorkflowRecord;
    expect(lost.result).toMatchObject({ s: { data: 'of a' } });
    await sides.expectOneAnswer();
  });

  test('with two errors is kept with the other one, too', async () => {
    const sides = await Sides.open();
    const worker = await HandPeer.joins(sides.scene, 'h', ['a', 'b']);
    const { uid } = await sides.scene.submit('a', task({ task_type: 'fn:hand', at_most_once: true }));
    await worker.leased(1);
    worker.beating = false; // a misses it, and to b it says that it holds nothing.
    await sides.part();
    const failure = async (name: string) => (await sides.scene.ended(name, uid)).error?.code;
    expect([await failure('a'), await failure('b')]).toEqual(['WORKER_LOST', 'OWNER_LOST']);
    await sides.heal();
    expect(await failure('b')).toBe('OWNER_LOST');
    const [kept] = await sides.superseded(uid);
    expect((kept!.record as TaskRecord).error?.code).toBe('WORKER_LOST');
    await sides.expectOneAnswer();
  });

  test('the same way leaves nothing superseded', async () => {
    const sides = await Sides.open();
    const uid = await sides.submit({ name: 'w', steps: [approve('s')] });
    await sides.part();
    await sides.answer('a', `${uid}/s/0`, 'same');
    await sides.answer('b', `${uid}/s/0`, 'same');
    await sides.heal();
    expect(await sides.superseded(uid)).toEqual([]);
    await sides.expectOneAnswer();
  });
});

describe('a root that is open on both sides', () => {
  test('uses what the other side did of it: nothing is done twice', async () => {
    const sides = await Sides.open();
    const uid = await sides.submit({
      name: 'w',
      steps: [
        approve('s'),
        { step_id: 'work', action: 'fn:work', depends_on: ['s'], inputs: { x: 1 } },
        approve('last', { depends_on: ['work'] }),
      ],
    });
    await sides.part();
    await sides.answer('a', `${uid}/s/0`, 'of a');
    await sides.scene.until(
      'it is done at a',
      async () => (await sides.task('a', `${uid}/work/0`))?.status === 'completed',
    );
    await sides.heal();
    await sides.scene.until(
      'b comes as far',
      async () => (await sides.task('b', `${uid}/last/0`))?.status === 'input_required',
    );
    expect(await sides.task('b', `${uid}/s/0`)).toMatchObject({ status: 'completed', output: { data: 'of a' } });
    expect(sides.scene.mesh.ledger.filter((entry) => entry.uid === `${uid}/work/0`)).toHaveLength(1);
    await sides.answer('b', `${uid}/last/0`, null);
    expect((await sides.workflow('b', uid)).status).toBe('completed');
    await sides.expectOneAnswer();
  });

  test('does again what the other side did with other inputs, and keeps that as superseded', async () => {
    const sides = await Sides.open();
    const uid = await sides.submit({
      name: 'w',
      steps: [
        approve('s'),
        { step_id: 'work', action: 'fn:work', depends_on: ['s'], inputs: { of: '${ steps.s.output.data }' } },
        approve('last', { depends_on: ['work'] }),
      ],
    });
    await sides.part();
    await sides.answer('a', `${uid}/s/0`, 'a');
    await sides.answer('b', `${uid}/s/0`, 'b');
    await sides.scene.pass(1_000);
    await sides.heal();
    expect(await sides.task('b', `${uid}/work/0`)).toMatchObject({ status: 'completed', output: { of: 'b' } });
    const kept = await sides.superseded(uid);
    expect(kept.map(({ record }) => record.uid).sort()).toEqual([`${uid}/s/0`, `${uid}/work/0`]);
    await sides.expectOneAnswer();
  });

  test('is rejected when the other side said so', async () => {
    const sides = await Sides.open();
    const uid = await sides.submit({
      name: 'w',
      steps: [approve('s', { on_failure: 'continue' }), approve('other')],
    });
    await sides.part();
    await sides.answer('a', `${uid}/s/0`, 'no', false);
    await sides.heal();
    expect(await sides.task('b', `${uid}/s/0`)).toMatchObject({ status: 'failed', error: { code: 'REJECTED' } });
    expect((await sides.workflow('b', uid)).status).toBe('input_required');
    await sides.expectOneAnswer();
  });

  test('is one piece of work afterwards: a task that ran on the other side is committed once', async () => {
    const sides = await Sides.open();
    const { uid } = await sides.scene.submit(
      'a',
      task({ payload: { ms: 60_000 }, requires: { ...task().requires, peers: ['a'] } }),
    );
    await sides.scene.until('it runs', () => sides.scene.mesh.ledger.length === 1);
    await sides.part();
    await sides.heal();
    const record = await sides.scene.ended('b', uid);
    expect(record.status).toBe('completed');
    await sides.expectOneAnswer();
  });
});

describe('a root that was cleared on one side', () => {
  test('after it had ended is cleared everywhere', async () => {
    const sides = await Sides.open();
    const { uid } = await sides.scene.submit(
      'a',
      task({ task_type: 'sleep', payload: { duration_ms: 10 }, timeout_ms: 1 }),
    );
    await sides.scene.ended('a', uid);
    await sides.part();
    await sides.scene.run(sides.scene.scheduler('a').api.clearQueue('dead_letter'));
    await sides.heal();
    expect(await sides.task('b', uid)).toBeUndefined();
    await sides.expectOneAnswer();
  });
});

describe('a hand-over of many roots', () => {
  test('does not wait for copies at the peer that has to bring them first', async () => {
    const sides = await Sides.open();
    const uids: string[] = [];
    for (let index = 0; index < 100; index++) uids.push(await sides.submit({ name: 'w', steps: [approve('s')] }));
    await sides.part();
    for (const uid of uids) await sides.answer('a', `${uid}/s/0`, 'of a');
    sides.scene.mesh.board.heal('a', 'b');
    const healed = sides.scene.world.now;
    await sides.scene.until('b has taken over how they ended', () => sides.live.runs === 0);
    expect(sides.scene.world.now - healed).toBeLessThan(COPY_WAIT_MS);
    await sides.expectOneAnswer();
    await sides.scene.until('a counts again', () => sides.copies === 2);
  });
});

test('a root that several peers bring waits for its copies once', async () => {
  const scene = await Scene.of(['a']);
  const follower = await HandPeer.joins(scene, 'f', ['a']);
  await scene.until('f counts', () => scene.feed('a').replicas.copies === 2);
  follower.answers.set('push', () => new Promise<never>(() => {}));
  const began = scene.world.now;
  const line = currentLine(scene.feed('a').feed);
  // The second one knows that it has its id again, which is written, too.
  const brought = ['t~x', 't'].map((task_id, place) => {
    const records = [taskRecord('x', { task_id, status: 'completed', copies: 2 })];
    const message = { line: { ...line, nonce: `n${place}` }, root_uid: 'x', part: 0, last: true, records };
    return scene.scheduler('a').parts.reconciliation.receive(`h${place}`, scene.feed('a'), message);
  });
  await scene.run(Promise.all(brought));
  expect(scene.world.now - began).toBeLessThan(1.5 * COPY_WAIT_MS);
  expect((await scene.task('a', 'x')).task_id).toBe('t');
});

describe('a hand-over that is cut short', () => {
  test('is made again, and comes to the same', async () => {
    const sides = await Sides.open();
    await sides.part();
    const uids: string[] = [];
    for (let index = 0; index < 5; index++) uids.push(await sides.submit({ name: 'w', steps: [approve('s')] }));
    sides.scene.mesh.board.heal('a', 'b');
    await sides.scene.until('some are there', async () => (await sides.workflow('b', uids[0]!)) !== undefined);
    sides.scene.mesh.board.cut('a', 'b');
    await sides.scene.pass(3 * BEAT_MS);
    await sides.heal();
    for (const uid of uids) expect((await sides.workflow('b', uid)).status).toBe('input_required');
    expect(sides.live).toEqual({ tasks: 5, runs: 5 });
    await sides.expectOneAnswer();
  });

  test('by a crash is made again after the restart', async () => {
    const sides = await Sides.open();
    await sides.part();
    const uid = await sides.submit({ name: 'w', steps: [approve('s')] });
    await sides.answer('a', `${uid}/s/0`, 'of a');
    const disk = sides.scene.mesh.kill('a');
    sides.scene.mesh.board.heal('a', 'b');
    await sides.scene.run(sides.scene.mesh.restart('a', disk));
    await sides.scene.until('b has it', async () => (await sides.workflow('b', uid))?.status === 'completed');
    await sides.expectOneAnswer();
  });
});

describe('roots that come in parts', () => {
  async function receiver() {
    const scene = await Scene.of(['a']);
    const feed = scene.feed('a');
    const receive = (root_uid: string, part: number) => {
      const log: LogRecord = {
        kind: 'log',
        uid: `${root_uid}/log`,
        task_uid: root_uid,
        lines: [],
        dropped_lines: part,
      };
      const records = [part === 0 ? taskRecord(root_uid, { status: 'completed' }) : log];
      const message = { line: currentLine(feed.feed), root_uid, part, last: part === 1, records };
      return scene.run(scene.scheduler('a').parts.reconciliation.receive('h', feed, message));
    };
    const uids = () => Promise.all(['x', 'y', 'x/log', 'y/log'].map(async (uid) => (await rowOf(uid))?.uid));
    const rowOf = (uid: string) => scene.peer('a').store.reader.row(uid);
    return { receive, uids };
  }

  test('are each whole, also when several come at a time', async () => {
    const { receive, uids } = await receiver();
    for (const part of [0, 1]) for (const root of ['x', 'y']) await receive(root, part);
    expect(await uids()).toEqual(['x', 'y', 'x/log', 'y/log']);
  });

  test('are not taken without their first parts: they are brought again', async () => {
    const { receive, uids } = await receiver();
    await expect(receive('x', 1)).rejects.toMatchObject({ code: 'HAND_OVER_CUT', retryable: true });
    expect(await uids()).toEqual([undefined, undefined, undefined, undefined]);
  });
});
