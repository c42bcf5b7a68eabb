/** P7: what has no room is refused with a sentence that names the limit, or held back; nothing grows. */
import { describe, expect, test } from 'vitest';
import type { JsonValue } from '../../dag/errors.ts';
import { JSON_DEPTH_MAX } from '../../dag/limits.ts';
import {
  ACTIVE_WORKFLOWS_MAX,
  ARRIVING_BYTES_MAX,
  ARRIVING_PEER_SHARE,
  ARRIVING_ROOTS_MAX,
  COPIED_FEEDS_MAX,
  COPIED_FEEDS_PER_PEER_MAX,
  JOURNAL_BACKLOG_MAX,
  KEPT_RESULTS_BYTES,
  KEPT_RESULTS_MAX,
  KEPT_RESULTS_OWNER_SHARE,
  PUSHES_IN_FLIGHT_MAX,
  REQUEST_DEADLINE_MS,
} from '../../scheduler/limits.ts';
import type { Lease } from '../../scheduler/messages.ts';
import { currentLine, newFeed } from '../../scheduler/storage/feed-lines.ts';
import { ResultOutbox } from '../../scheduler/worker/result-outbox.ts';
import { SimulatedNetwork } from '../simulation/simulated-network.ts';
import { quiet } from '../simulation/world.ts';
import { HandFeed } from './hand-feed.ts';
import { HandPeer, resultOf } from './hand-peer.ts';
import { unwatched } from './pool.ts';
import { taskRecord } from './records.ts';
import { gate, Scene, task } from './scene.ts';

const APPROVAL = { name: 'w', steps: [{ step_id: 's', action: 'approve' }] };
const MIB = 1024 * 1024;

describe('a submit is refused', () => {
  test('when ACTIVE_WORKFLOWS_MAX workflows are open', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submitWorkflow('a', APPROVAL);
    const { live } = scene.feed('a').runs;
    const open = live.get(uid)!;
    for (let at = 1; at < ACTIVE_WORKFLOWS_MAX; at++) {
      live.add({ ...open, record: { ...open.record, uid: `other-${at}`, workflow_id: `other-${at}` } });
    }
    await expect(scene.submitWorkflow('a', APPROVAL)).rejects.toMatchObject({
      code: 'QUEUE_FULL',
      retryable: true,
      message: expect.stringContaining('too many workflows'),
      details: { limit: 'ACTIVE_WORKFLOWS_MAX', value: ACTIVE_WORKFLOWS_MAX },
    });
  });

  test('while too much waits for the disk or for copies; it is taken when that is done', async () => {
    const scene = await Scene.of(['a']);
    const { journal } = scene.feed('a');
    journal.freeze();
    const waiting = journal.turn((turn) => {
      for (let at = 0; at < JOURNAL_BACKLOG_MAX; at++) turn.after(() => {});
    });
    const refusal = { code: 'QUEUE_FULL', retryable: true, details: { limit: 'JOURNAL_BACKLOG_MAX' } };
    await expect(scene.submit('a', task())).rejects.toMatchObject(refusal);
    await expect(scene.submitWorkflow('a', APPROVAL)).rejects.toMatchObject(refusal);
    journal.thaw();
    await scene.run(waiting);
    expect(journal.backlog).toBe(0);
    await scene.ended('a', (await scene.submit('a', task())).uid);
    expect(journal.backlog).toBe(0);
  });

  test('what waits for copies counts as what waits for the disk', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    const { journal, replicas } = scene.feed('a');
    await scene.until('h counts', () => replicas.copies === 2);
    const held = gate();
    peer.answers.set('push', async (params) => {
      await held.opened;
      return { seq: params['head_seq']! };
    });
    const submitted = scene.scheduler('a').api.submitTask(task({ delay_ms: 3_600_000 }));
    await scene.pass(100);
    expect(journal.backlog).toBeGreaterThan(0);
    held.open();
    await scene.run(submitted);
    expect(journal.backlog).toBe(0);
  });
});

test('a result of a workflow over RESULT_BYTES_MAX is left out, and the workflow fails', async () => {
  const scene = await Scene.of(['a'], { actions: { 'fn:large': async () => 'x'.repeat(3.9 * MIB) } });
  const steps = ['a', 'b', 'c'].map((step_id) => ({ step_id, action: 'fn:large' }));
  const { uid } = await scene.submitWorkflow('a', { name: 'w', steps });
  expect(await scene.endedWorkflow('a', uid)).toMatchObject({
    status: 'failed',
    result: null,
    error: { code: 'RESULT_TOO_LARGE', message: expect.stringContaining('RESULT_BYTES_MAX') },
  });
});

test('a result in which one output stands many times is left out, however much it would be', async () => {
  const scene = await Scene.of(['a'], { actions: { 'fn:large': async () => 'x'.repeat(3.9 * MIB) } });
  const output = Array(1_000).fill('${ steps.a.output }');
  const { uid } = await scene.submitWorkflow('a', { name: 'w', steps: [{ step_id: 'a', action: 'fn:large' }], output });
  expect(await scene.endedWorkflow('a', uid)).toMatchObject({
    status: 'failed',
    result: null,
    error: { code: 'RESULT_TOO_LARGE', message: expect.stringContaining('RESULT_BYTES_MAX') },
  });
});

test.each([
  ['too deep', ['${ input.deep }'], 'JSON_DEPTH_MAX'],
  ['too many values', Array(3).fill('${ input.wide }'), 'JSON_ELEMENTS_MAX'],
  ['too large', Array(1_000).fill('${ input.long }'), 'INPUT_BYTES_MAX'],
])('inputs that are %s only when they are put together fail their step', async (_, parts, limit) => {
  const scene = await Scene.of(['a']);
  let deep: JsonValue = 1;
  for (let level = 0; level < JSON_DEPTH_MAX - 3; level++) deep = [deep];
  const input = { deep, wide: Array(100_000).fill(0), long: 'x'.repeat(MIB) };
  const steps = [{ step_id: 's', action: 'echo', inputs: { at: { parts: [parts] } } }];
  const { uid } = await scene.submitWorkflow('a', { name: 'w', input, steps });
  expect(await scene.endedWorkflow('a', uid)).toMatchObject({
    status: 'failed',
    error: { code: expect.any(String), message: expect.stringMatching(`inputs of step "s".*${limit}`) },
  });
});

describe('a worker with KEPT_RESULTS_MAX results, or KEPT_RESULTS_BYTES of them, that no owner has taken', () => {
  const lease = (attempt: number): Lease => ({
    ...{ uid: 't', feed_id: 'f', epoch: 1, attempt, worker_id: 'w', action: 'echo', payload: {}, timeout_ms: null },
    requires: { labels: [], peers: [] },
  });

  async function keeper(): Promise<{
    outbox: ResultOutbox;
    keep: (attempt: number, owner: string, bytes: number) => void;
  }> {
    const scene = await Scene.of(['a']);
    const network = new SimulatedNetwork('w', scene.mesh.board);
    await scene.run(network.connect('a'));
    const outbox = new ResultOutbox({
      clock: scene.peer('a').clock,
      network,
      log: quiet,
      probe: () => {},
      ...unwatched,
    });
    return {
      outbox,
      keep: (attempt, owner, bytes) =>
        outbox.keep(lease(attempt), { granted_by: owner, owner }, resultOf(lease(attempt)), bytes),
    };
  }

  test('begins nothing more for owners that are there', async () => {
    const { outbox, keep } = await keeper();
    for (let at = 0; at < KEPT_RESULTS_MAX; at++) {
      const owner = at % 2 === 0 ? 'w' : 'a';
      expect(outbox.hasRoom(owner)).toBe(true);
      keep(at, owner, 1);
    }
    for (const owner of ['w', 'a', 'v']) expect(outbox.hasRoom(owner)).toBe(false);
    const byBytes = await keeper();
    byBytes.keep(1, 'w', KEPT_RESULTS_BYTES);
    expect(byBytes.outbox.hasRoom('v')).toBe(false);
  });

  test('begins nothing more for an owner whose results take its share, and goes on for others', async () => {
    const { outbox, keep } = await keeper();
    for (let at = 0; at < KEPT_RESULTS_MAX * KEPT_RESULTS_OWNER_SHARE; at++) keep(at, 'w', 1);
    expect(['w', 'v'].map((owner) => outbox.hasRoom(owner))).toEqual([false, true]);
    const byBytes = await keeper();
    byBytes.keep(1, 'w', KEPT_RESULTS_BYTES * KEPT_RESULTS_OWNER_SHARE);
    expect(['w', 'v'].map((owner) => byBytes.outbox.hasRoom(owner))).toEqual([false, true]);
  });

  test('forgets the oldest of owners that are away', async () => {
    const { outbox, keep } = await keeper();
    for (let at = 0; at < KEPT_RESULTS_MAX; at++) keep(at, at < 2 ? 'away' : 'w', 1);
    expect(outbox.hasRoom('v')).toBe(true);
    expect([...outbox.of('away')].map(({ attempt }) => attempt)).toEqual([1]);
    expect([...outbox.of('w')]).toHaveLength(KEPT_RESULTS_MAX - 2);
  });
});

test('a follower that acknowledges nothing has at most PUSHES_IN_FLIGHT_MAX commits on their way, then catches up', async () => {
  const scene = await Scene.of(['a']);
  const peer = await HandPeer.joins(scene, 'h', ['a']);
  const { journal, replicas } = scene.feed('a');
  await scene.until('h counts', () => replicas.copies === 2);
  const held = gate();
  let open = 0;
  let most = 0;
  peer.answers.set('push', async (params) => {
    most = Math.max(most, ++open);
    await held.opened;
    open--;
    return { seq: params['head_seq']! };
  });
  const commits = PUSHES_IN_FLIGHT_MAX + 50;
  for (let at = 0; at < commits; at++) {
    const before = journal.head;
    void journal.turn((turn) => turn.put(taskRecord(`t-${at}`)));
    await scene.until('it is a commit', () => journal.head > before);
  }
  await scene.pass(100);
  expect(most).toBe(PUSHES_IN_FLIGHT_MAX);
  peer.messages.length = 0;
  held.open();
  await scene.until('it is told to catch up', () =>
    peer.messages.some(({ method, params }) => method === 'push' && params['head_seq'] === journal.head),
  );
  await scene.until('it has everything', () => replicas.copiesOf(journal.head) === 2);
});

test('a peer that keeps COPIED_FEEDS_MAX feeds of others takes no further one', async () => {
  const scene = await Scene.of(['a']);
  const peer = await HandPeer.joins(scene, 'h', ['a']);
  const { followed } = scene.scheduler('a').parts;
  for (let at = [...followed.all()].length; at < COPIED_FEEDS_MAX; at++) await followed.load(`feed-${at}`);
  const feed = new HandFeed(peer, 'one-too-many', ['a']);
  const refused = scene.run(feed.push('a', []));
  await expect(refused).rejects.toMatchObject({
    code: 'NO_COPY',
    message: expect.stringContaining('COPIED_FEEDS_MAX'),
  });
  expect(followed.find('one-too-many')).toBeUndefined();
});

test('a peer keeps COPIED_FEEDS_PER_PEER_MAX feeds of one owner, and then still those of others', async () => {
  const scene = await Scene.of(['a']);
  const [h, i] = [await HandPeer.joins(scene, 'h', ['a']), await HandPeer.joins(scene, 'i', ['a'])];
  const { followed } = scene.scheduler('a').parts;
  for (let at = 0; at < COPIED_FEEDS_PER_PEER_MAX; at++) {
    const copy = await followed.load(`feed-${at}`);
    copy.feed = newFeed(`feed-${at}`, 'h');
  }
  const refused = scene.run(new HandFeed(h, 'one-too-many', ['a']).push('a', []));
  await expect(refused).rejects.toMatchObject({ message: expect.stringContaining('COPIED_FEEDS_PER_PEER_MAX') });
  expect(await scene.run(new HandFeed(i, 'of-another', ['a']).push('a', []))).toEqual({ seq: 1 });
});

test('no more than ARRIVING_ROOTS_MAX wait for their last part', async () => {
  const scene = await Scene.of(['a']);
  const feed = scene.feed('a');
  const { reconciliation } = scene.scheduler('a').parts;
  const begin = (peer: string, root_uid: string) =>
    reconciliation.receive(peer, feed, { line: currentLine(feed.feed), root_uid, part: 0, last: false, records: [] });
  const refused = (maximum: number) => ({
    code: 'HAND_OVER_FULL',
    details: { limit: 'ARRIVING_ROOTS_MAX', maximum },
  });
  const ofPeer = ARRIVING_ROOTS_MAX * ARRIVING_PEER_SHARE;
  for (let at = 0; at < ofPeer; at++) await begin('h', `root-${at}`);
  await expect(begin('h', 'one-more')).rejects.toMatchObject(refused(ofPeer));
  for (let at = ofPeer; at < ARRIVING_ROOTS_MAX; at++) await begin('i', `root-${at}`);
  await expect(begin('i', 'one-more')).rejects.toMatchObject(refused(ARRIVING_ROOTS_MAX));
  await begin('h', 'root-0'); // anew, in the place of what had come
});

test('what is handed over is refused while ARRIVING_BYTES_MAX wait for their last part, and taken later', async () => {
  const scene = await Scene.of(['a']);
  const feed = scene.feed('a');
  const { reconciliation } = scene.scheduler('a').parts;
  const records = [taskRecord('t', { output: 'x'.repeat(ARRIVING_BYTES_MAX / 5) })];
  const part = (root_uid: string, part = 0) => ({ line: currentLine(feed.feed), root_uid, part, last: false, records });
  for (let at = 0; at < 3; at++) await reconciliation.receive('h', feed, part('root', at));
  const full = (maximum: number) => ({
    code: 'HAND_OVER_FULL',
    retryable: true,
    details: { limit: 'ARRIVING_BYTES_MAX', maximum },
  });
  await reconciliation.receive('i', feed, part('root'));
  await expect(reconciliation.receive('i', feed, part('other'))).rejects.toMatchObject(full(ARRIVING_BYTES_MAX));
  reconciliation.forget('h');
  reconciliation.forget('i');
  for (let at = 0; at < 3; at++) await reconciliation.receive('i', feed, part(`root-${at}`));
  const ofPeer = ARRIVING_BYTES_MAX * ARRIVING_PEER_SHARE;
  await expect(reconciliation.receive('i', feed, part('other'))).rejects.toMatchObject(full(ofPeer));
  await scene.pass(3 * REQUEST_DEADLINE_MS); // they were given up
  await reconciliation.receive('i', feed, part('other'));
});
