/** What another peer may write to this disk (P9): records of their schema, of their feed, in their place. */
import { describe, expect, test } from 'vitest';
import { parseWorkflow, requiresSchema, retrySchema } from '../../../dag/schema.ts';
import { ROW_BYTES_MAX, ROW_LEVELS_MAX } from '../../../scheduler/limits.ts';
import type { FlowRecord } from '../../../scheduler/records.ts';
import { currentLine, openLine } from '../../../scheduler/storage/feed-lines.ts';
import { HandFeed } from '../hand-feed.ts';
import { HandPeer } from '../hand-peer.ts';
import { taskRecord } from '../records.ts';
import { Scene } from '../scene.ts';

const FEED = 'feedfeedfeedfeedfeed';
const REFUSED = { code: 'INVALID_MESSAGE', retryable: false };
const WORKFLOW = parseWorkflow({ name: 'w', steps: [{ step_id: 's', action: 'echo' }] });
const LINE = { epoch: 1, base_seq: 0, owner: 'o', nonce: '' };

/** A real peer that follows a feed of a peer by hand. */
async function open() {
  const scene = await Scene.of(['f']);
  const owner = await HandPeer.joins(scene, 'o', ['f']);
  const feed = new HandFeed(owner, FEED, ['f']);
  await scene.run(feed.push('f', []));
  await scene.pass(100);
  /** What is on the disk of the follower. */
  const disk = async () => {
    const { store } = scene.peer('f');
    const rows = await store.reader.changes(FEED, { seq: 0, uid: '' }, Number.MAX_SAFE_INTEGER);
    return JSON.stringify([[...store.feeds.keys()].sort(), rows]);
  };
  return { scene, owner, feed, disk };
}

const task = (over: object = {}) => ({ ...taskRecord('u'), ...over });
const step = {
  ...{ kind: 'step', uid: 'w/s', workflow_uid: 'w', step_id: 's', status: 'running', items: null, reason: null },
  ...{ error: null, started_at: null, ended_at: null },
};
const feedOf = (over: object) => ({
  ...{ kind: 'feed', uid: `feed/${FEED}`, feed_id: FEED, lines: [LINE], passed_on: false, followers: [], former: [] },
  ...{ version: 1, pruned_to_seq: 0, ...over },
});
let deep: unknown = 1;
for (let level = 0; level <= ROW_LEVELS_MAX; level++) deep = [deep];

const BAD: [what: string, record: object | string][] = [
  ['no JSON', '{'],
  ['no record', 'null'],
  ['no kind', { uid: 'u' }],
  ['a kind that nobody knows', { kind: 'spell', uid: 'u' }],
  ['a task without a status', task({ status: undefined })],
  ['a task with a status that is none', task({ status: 'done' })],
  ['a task whose attempts are no list', task({ attempts: {} })],
  ['a task without a default of what it requires', task({ requires: {} })],
  ['a task without a default of its retries', task({ retry: { max_retries: 1 } })],
  ['a task that nests too deep', task({ payload: { deep } })],
  ['a row that is too large', task({ task_id: 'x'.repeat(ROW_BYTES_MAX) })],
  ['a definition without steps', { kind: 'definition', uid: 'w:definition', workflow: { ...WORKFLOW, steps: [] } }],
  [
    'a definition of which a step has no defaults',
    { kind: 'definition', uid: 'w:definition', workflow: { ...WORKFLOW, steps: [{ step_id: 's', action: 'echo' }] } },
  ],
  ['a definition under the uid of something else', { kind: 'definition', uid: 'w', workflow: WORKFLOW }],
  ['a task in the place of a step', task({ uid: 'w/s' })],
  ['a task of another step than its uid says', task({ uid: 'w/t/0', workflow_uid: 'w', step_id: 's', index: 0 })],
  ['a task of another workflow than its uid says', task({ uid: 'w/s/0', workflow_uid: 'v', step_id: 's', index: 0 })],
  ['a step of another workflow than its uid says', { ...step, workflow_uid: 'v' }],
  ['a log of another task', { kind: 'log', uid: 'u/log', task_uid: 'v', lines: [], dropped_lines: 0 }],
  ['a cached output of another feed', { kind: 'cache', uid: 'cache/other/key', task_uid: 'u', output: 1 }],
  ['a cached output in the place of a task', { kind: 'cache', uid: 'u', task_uid: 'u', output: 1 }],
  ['the record of another feed', feedOf({ feed_id: 'other' })],
  ['a feed without lines', feedOf({ lines: [] })],
  ['a feed whose lines go back', feedOf({ lines: [LINE, { ...LINE, nonce: 'again' }] })],
  [
    'a feed of more lines than are remembered',
    feedOf({ lines: Array.from({ length: 65 }, (_, n) => ({ ...LINE, epoch: n + 1 })) }),
  ],
  ['a feed of a later owner than its sender says', feedOf({ lines: [LINE, { ...LINE, epoch: 2, owner: 'x' }] })],
  ['what a peer keeps for itself: its main feed', { kind: 'peer', uid: 'peer', main_feed: FEED }],
  [
    'what a peer keeps for itself: its queue',
    { kind: 'queue', uid: 'queue', paused: true, reason: null, paused_at: null },
  ],
  ['what a peer keeps for itself: a copy', { kind: 'copy', uid: 'copy/x', feed_id: 'x', whole_from: 0, lines: [] }],
  ['a tombstone of what a peer keeps for itself', { kind: 'tombstone', uid: 'worker/x', cleared_at: '' }],
  ['a tombstone of another feed', { kind: 'tombstone', uid: 'feed/other', cleared_at: '' }],
  [
    'a superseded record under the uid of another one',
    { kind: 'superseded', uid: 'superseded/1/o/-/v', root_uid: 'u', line: LINE, superseded_at: '', record: task() },
  ],
];

const textOf = (record: object | string) => (typeof record === 'string' ? record : JSON.stringify(record));

describe('a row of another peer', () => {
  test.each(BAD)('%s: is refused, and none of its commit is kept', async (_what, record) => {
    const { scene, feed, disk } = await open();
    const before = await disk();
    const seq = feed.head + 1;
    const rows = [taskRecord('good'), record].map((each) => ({ epoch: 1, seq, text: textOf(each) }));
    const pushed = scene.run(feed.push('f', [], { prev_seq: feed.head, head_seq: seq, rows }));
    await expect(pushed).rejects.toMatchObject(REFUSED);
    expect(await disk()).toBe(before);
  });

  test.each(BAD)('%s: is refused in a page that was asked for, too', async (_what, record) => {
    const { scene, owner, feed, disk } = await open();
    const before = await disk();
    const seq = feed.head + 1;
    owner.answers.set('pull', () => ({
      ...{ feed: feed.feed as never, whole: true, head_seq: seq, complete: true },
      rows: [taskRecord('good'), record].map((each) => ({ epoch: 1, seq, text: textOf(each) })),
    }));
    const told = scene.run(feed.push('f', [], { prev_seq: seq, head_seq: seq }));
    await expect(told).rejects.toMatchObject(REFUSED);
    expect(await disk()).toBe(before);
  });

  const PLACES: [what: string, place: { epoch?: number; seq?: number; head_seq?: number; prev_seq?: number }][] = [
    ['in a commit before the one that it says it follows', { seq: 1 }],
    ['in a commit after the last one', { seq: 3 }],
    ['in an epoch that has not begun', { epoch: 2 }],
    ['in an epoch that is over', { epoch: 0 }],
    ['in a message that ends before it begins', { prev_seq: 5 }],
  ];
  test.each(PLACES)('%s: is refused', async (_what, { epoch = 1, seq = 2, head_seq = 2, prev_seq = 1 }) => {
    const { scene, feed, disk } = await open();
    const before = await disk();
    const rows = [{ epoch, seq, text: textOf(taskRecord('u')) }];
    await expect(scene.run(feed.push('f', [], { prev_seq, head_seq, rows }))).rejects.toMatchObject(REFUSED);
    expect(await disk()).toBe(before);
  });

  test('is kept as it came, with fields that only a later version knows', async () => {
    const { scene, feed } = await open();
    const later = {
      ...taskRecord('u', { requires: { ...requiresSchema.parse({}), moon: 'full' } as never }),
      ...{ retry: { ...retrySchema.parse({}), patience: 1 }, colour: 'blue' },
    };
    const definition = {
      ...{ kind: 'definition', uid: 'w:definition', aim: 'x' },
      workflow: { ...WORKFLOW, mood: 'good', steps: [{ ...WORKFLOW.steps[0], weight: 3 }] },
    };
    await scene.run(feed.push('f', feed.commit(later as FlowRecord, definition as unknown as FlowRecord)));
    expect(await scene.task('f', 'u')).toEqual(later);
    expect(await scene.peer('f').store.reader.get('definition', 'w:definition')).toEqual(definition);
  });

  test('of every kind that travels is taken', async () => {
    const { scene, feed } = await open();
    const line = currentLine(openLine(feed.feed, 'o', 1, 'x'));
    const records = [
      taskRecord('u'),
      taskRecord('w/s/0', { workflow_uid: 'w', workflow_id: 'w', step_id: 's', index: 0 }),
      step,
      { kind: 'definition', uid: 'w:definition', workflow: WORKFLOW },
      { kind: 'log', uid: 'u/log', task_uid: 'u', lines: [], dropped_lines: 0 },
      { kind: 'cache', uid: `cache/${FEED}/key`, task_uid: 'u', output: null },
      { kind: 'tombstone', uid: 'gone', cleared_at: '' },
      { kind: 'superseded', uid: `superseded/2/o/x/u`, root_uid: 'u', line, superseded_at: '', record: task() },
    ] as FlowRecord[];
    await scene.run(feed.push('f', feed.commit(...records)));
    expect(await scene.peer('f').store.reader.feedsOf(records.map(({ uid }) => uid))).toEqual(records.map(() => FEED));
  });
});
