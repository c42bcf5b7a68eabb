/** No row is made that no message carries; what is too large fails what made it, and nothing else. */
import { describe, expect, test } from 'vitest';
import { ERROR_MESSAGE_CHARS_MAX, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import { JSON_DEPTH_MAX, OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import { MESSAGE_BYTES_MAX, packMessage } from '../../node/p2p/frames.ts';
import {
  FEED_LINES_MAX,
  FORMER_FOLLOWERS_MAX,
  LOG_BYTES_MAX,
  LOG_LINE_CHARS_MAX,
  LOG_LINES_MAX,
  RECORD_BYTES_MAX,
  RESULT_BYTES_MAX,
  ROW_BYTES_MAX,
} from '../../scheduler/limits.ts';
import type { FlowRecord, LogLine } from '../../scheduler/records.ts';
import { bytesWithin, rowText, shipped } from '../../scheduler/sizes.ts';
import { withLines } from '../../scheduler/worker/task-log.ts';
import { HandPeer } from './hand-peer.ts';
import { taskRecord } from './records.ts';
import { gate, Scene, task } from './scene.ts';

const MIB = 1024 * 1024;
const NAME = 'n'.repeat(512);
const text = (bytes: number) => 'x'.repeat(bytes);
const FOUR_MIB = {
  'fn:large': async () => text(OUTPUT_BYTES_MAX - 2),
  'fn:less': async () => text(OUTPUT_BYTES_MAX - 64),
};
const large = (step_id: string) => ({ step_id, action: 'fn:large' });

describe('a message between peers', () => {
  test('has room for the largest row, in a push and in a page of a pull', () => {
    const line = { epoch: 1, base_seq: 1, owner: NAME, nonce: NAME };
    const feed = {
      ...{ kind: 'feed', uid: NAME, feed_id: NAME, passed_on: true, version: 1, pruned_to_seq: 1 },
      lines: Array.from({ length: FEED_LINES_MAX }, () => line),
      followers: Array.from({ length: FORMER_FOLLOWERS_MAX }, () => ({ peer_id: NAME, synced: true })),
      former: Array.from({ length: FORMER_FOLLOWERS_MAX }, () => NAME),
    };
    const rows = [{ epoch: 1, seq: 1, text: text(ROW_BYTES_MAX) }];
    const result = { feed, rows, whole: true, head_seq: 1, complete: true };
    expect(packMessage({ id: 1, result }).byteLength).toBeLessThan(MESSAGE_BYTES_MAX);
    const params = { feed_id: NAME, line, prev_seq: 1, head_seq: 1, rows };
    expect(packMessage({ id: 1, method: 'push', params }).byteLength).toBeLessThan(MESSAGE_BYTES_MAX);
  });
});

describe('the size of a value', () => {
  test('is that of its JSON, up to what is asked for', () => {
    expect(bytesWithin('äx', 5)).toBe(5);
    expect(bytesWithin('äx', 4)).toBeNull();
    expect(bytesWithin([1, 2, 3], 7)).toBe(7);
    expect(bytesWithin([1, 2, 3], 6)).toBeNull();
  });

  test('costs no more than that, however often one value is in it', () => {
    const many = Array.from({ length: 100_000 }, () => text(MIB)); // 100 GB as JSON
    expect(bytesWithin(many, RESULT_BYTES_MAX)).toBeNull();
  });

  test('is none of what nests too deep', () => {
    let value: JsonValue = [];
    for (let level = 0; level < JSON_DEPTH_MAX; level++) value = [value];
    expect(bytesWithin(value, MIB)).toBeNull();
  });
});

describe('a row', () => {
  test('that no message carries is not written', () => {
    const fits = taskRecord('t', { output: text(RECORD_BYTES_MAX) });
    expect(rowText(fits)).toBe(JSON.stringify(fits));
    expect(() => rowText(taskRecord('t', { output: text(ROW_BYTES_MAX) }))).toThrow(
      expect.objectContaining({ code: 'ROW_TOO_LARGE', retryable: false }),
    );
  });

  test('of an earlier version, with an error of any length, is brought to others with one that fits', () => {
    const error = { code: 'EXPRESSION_FAILED', message: text(20 * MIB), retryable: false };
    const attempts = [{ attempt: 1, peer_id: 'p', ended_at: '2026-01-01T00:00:00.000Z', error }];
    const record: FlowRecord = taskRecord('t', { status: 'failed', error, attempts });
    const row = { uid: 't', feed_id: 'f', epoch: 1, seq: 1, record };
    const brought = shipped({ ...row, text: JSON.stringify(record) });
    expect(JSON.parse(brought.text!)).toEqual(brought.record);
    expect(brought.text!.length).toBeLessThan(3 * ERROR_MESSAGE_CHARS_MAX);
    expect(brought.record).toMatchObject({ status: 'failed', error: { code: 'EXPRESSION_FAILED' } });
  });
});

describe('a workflow', () => {
  test('whose result would be larger than any message fails, and says so', async () => {
    const scene = await Scene.of(['a', 'b'], { actions: FOUR_MIB });
    const steps = ['one', 'two', 'three'].map(large);
    const { uid } = await scene.submitWorkflow('a', { name: 'w', steps });
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({
      status: 'failed',
      progress: 100,
      result: null,
      error: { code: 'RESULT_TOO_LARGE', retryable: false },
    });
    await expectCopied(scene);
  });

  test('fails, too, when it is nested: the step around it does not go on without its result', async () => {
    const scene = await Scene.of(['a'], { actions: FOUR_MIB });
    const inner = { name: 'inner', steps: ['one', 'two', 'three'].map(large) };
    const steps = [{ step_id: 'n', action: 'workflow', inputs: { workflow: inner }, retry: { max_retries: 3 } }];
    const { uid } = await scene.submitWorkflow('a', { name: 'outer', steps });
    const error = { code: 'NESTED_FAILED', retryable: false, message: expect.stringContaining('RESULT_BYTES_MAX') };
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'failed', error });
    const [task] = await scene.peer('a').store.reader.children('task', uid);
    expect(task).toMatchObject({ status: 'failed', output: null, failures: 1 });
  });

  test('ends all the same when its result would take more than there is memory for', async () => {
    const scene = await Scene.of(['a'], { actions: FOUR_MIB });
    const output = Array.from({ length: 1_000 }, () => '${ steps.one.output }');
    const { uid } = await scene.submitWorkflow('a', { name: 'w', steps: [large('one')], output });
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({
      status: 'failed',
      result: null,
      error: { code: 'RESULT_TOO_LARGE' },
    });
  });

  test('with metadata and a result that do not fit together ends without the result', async () => {
    const scene = await Scene.of(['a', 'b'], { actions: FOUR_MIB });
    const metadata = { note: text(7.5 * MIB) };
    const output = ['${ steps.one.output }'];
    const fits = await scene.submitWorkflow('a', { name: 'w', metadata, steps: [large('one')], output });
    expect(await scene.endedWorkflow('a', fits.uid)).toMatchObject({ status: 'completed', error: null });
    const both = [...output, '${ steps.two.output }'];
    const steps = [large('one'), { ...large('two'), action: 'fn:less' }];
    const { uid } = await scene.submitWorkflow('a', { name: 'w', metadata, steps, output: both });
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({
      status: 'failed',
      result: null,
      error: { code: 'RESULT_TOO_LARGE', message: expect.stringContaining('RECORD_BYTES_MAX') },
    });
    await expectCopied(scene);
  });

  test('of an earlier version ends, whatever the errors of its ended tasks are', async () => {
    const { opened, open } = gate();
    const hand = async ({ payload }: { payload: JsonObject }) => {
      if (payload['n'] === 0) throw new Error('no');
      await opened;
      return null;
    };
    const scene = await Scene.of(['a'], { actions: { 'fn:hand': hand } });
    const step = { action: 'fn:hand', foreach: [0, 1], inputs: { n: '${ item }' }, on_failure: 'continue' };
    const { uid } = await scene.submitWorkflow('a', { name: 'w', steps: [{ step_id: 's', ...step }] });
    const failed = await scene.ended('a', `${uid}/s/0`);
    const disk = scene.mesh.kill('a');
    const row = (await disk.reader.row(failed.uid))!;
    const record = { ...failed, error: { ...failed.error!, message: text(20 * MIB) } };
    const seq = disk.feeds.get(row.feed_id)!.seq + 1;
    await disk.commit([{ ...row, seq, record, text: JSON.stringify(record) }]);
    await scene.run(scene.mesh.restart('a', disk));
    open();
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'completed', result: { s: [null, null] } });
  });

  test.each([
    ['foreach', { foreach: Array.from({ length: 3 }, () => '${ steps.one.output }') }, 'ITEMS_BYTES_MAX'],
    ['inputs', { inputs: { x: Array.from({ length: 3 }, () => '${ steps.one.output }') } }, 'INPUT_BYTES_MAX'],
  ])('with a step whose %s are too large fails there', async (_what, over, limit) => {
    const scene = await Scene.of(['a', 'b'], { actions: FOUR_MIB });
    const next = { step_id: 'next', action: 'echo', depends_on: ['one'], ...over };
    const { uid } = await scene.submitWorkflow('a', { name: 'w', steps: [large('one'), next] });
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({
      status: 'failed',
      error: { code: 'LIMIT_EXCEEDED', details: { limit, step_id: 'next' } },
    });
    await expectCopied(scene);
  });
});

describe('a task', () => {
  test('whose record would be too large with what a worker brings fails, and the feed goes on', async () => {
    const scene = await Scene.of(['a', 'b']);
    const hand = await HandPeer.joins(scene, 'h', ['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'fn:hand', metadata: { note: text(6 * MIB) } }));
    await hand.result('a', await hand.leased(1), { output: text(10 * MIB) });
    expect(await scene.task('a', uid)).toMatchObject({
      status: 'failed',
      output: null,
      dead_letter: true,
      error: { code: 'OUTPUT_TOO_LARGE' },
    });
    await expectCopied(scene);
  });

  test('is answered by a person with no more than an input may have', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'approve' }));
    await scene.until('it waits', async () => (await scene.task('a', uid)).status === 'input_required');
    const answered = scene.scheduler('a').api.answerTask(uid, { approve: true, data: text(2 * MIB) });
    await expect(scene.run(answered)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    expect((await scene.task('a', uid)).status).toBe('input_required');
  });

  test('keeps the last lines of its log that fit, whatever is in them', () => {
    const line = (index: number): LogLine => {
      const unwritable = String.fromCharCode(1).repeat(LOG_LINE_CHARS_MAX);
      return { at: '2026-01-01T00:00:00.000Z', attempt: index, stream: 'stdout', line: unwritable };
    };
    const lines = Array.from({ length: LOG_LINES_MAX }, (_, index) => line(index));
    const log = withLines(null, 't', lines, 2);
    expect(JSON.stringify(log).length).toBeLessThan(LOG_BYTES_MAX + 256);
    expect(log.lines.length).toBeGreaterThan(LOG_BYTES_MAX / (6 * LOG_LINE_CHARS_MAX + 256) - 1);
    expect(log.lines.at(-1)?.attempt).toBe(LOG_LINES_MAX - 1);
    expect(log.lines.length + log.dropped_lines).toBe(LOG_LINES_MAX + 2);
  });
});

/** What is submitted now gets to another disk. */
async function expectCopied(scene: Scene): Promise<void> {
  await scene.until('two disks have all of it', () => scene.feed('a').replicas.copies === 2);
  const { durability } = await scene.run(scene.scheduler('a').api.submitTask(task({ delay_ms: 3_600_000 })));
  expect(durability).toEqual({ copies: 2, wanted: 2 });
}
