import { beforeAll, describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { requiresSchema } from '../../dag/schema.ts';
import { EVERYBODY } from '../../scheduler/caller.ts';
import type { Reader } from '../../scheduler/ports.ts';
import type { FeedRecord } from '../../scheduler/records.ts';
import { currentLine, newFeed } from '../../scheduler/storage/feed-lines.ts';
import { MemoryStore } from '../simulation/memory-store.ts';
import { HandFeed } from './hand-feed.ts';
import { HandPeer, tokenOf } from './hand-peer.ts';
import { taskRecord } from './records.ts';
import { type Gate, gate, Scene, task, workflow } from './scene.ts';

const TOKEN = { uid: 'u', feed_id: 'f', epoch: 1, attempt: 1 };
const RESULT = {
  ...TOKEN,
  status: 'completed',
  output: null,
  error: null,
  execution_time_ms: 1,
  lines: [],
  dropped_lines: 0,
};
const LEASE = {
  ...TOKEN,
  worker_id: 'w',
  action: 'echo',
  payload: {},
  requires: requiresSchema.parse({}),
  timeout_ms: null,
};

const LINE = { epoch: 1, base_seq: 0, owner: 'h', nonce: '' };
const ROW = { uid: 'u', feed_id: 'f', epoch: 1, seq: 1, record: { kind: 'tombstone', uid: 'u', cleared_at: '' } };
const PUSH = { feed_id: 'f', line: LINE, prev_seq: 0, head_seq: 1, rows: [ROW] };
const HAND_OVER = { feed_id: 'f', line: LINE, root_uid: 'u', part: 0, records: [], last: true };

/** Messages that do not have the form of their method. */
const MALFORMED: [method: string, what: string, params: unknown][] = [
  ['hello', 'nothing', null],
  ['hello', 'a worker without slots', { name: 'x', version: '1', feeds: [], workers: [{ worker_id: 'w' }] }],
  ['hello', 'too long a name', { name: 'x'.repeat(1_000) }],
  ['beat', 'nothing', null],
  ['beat', 'no state', { holding: [], knows: [] }],
  ['lease', 'nothing', null],
  ['lease', 'a lease without an action', { leases: [{ ...LEASE, action: undefined }], heirs: [] }],
  ['lease', 'a negative attempt', { leases: [{ ...LEASE, attempt: -1 }], heirs: [] }],
  ['lease', 'too many', { leases: Array.from({ length: 257 }, () => LEASE), heirs: [] }],
  ['refuse', 'nothing', null],
  ['refuse', 'another reason', { items: [{ ...TOKEN, reason: 'tired', message: '' }] }],
  ['progress', 'nothing', null],
  ['progress', 'more than all', { items: [{ ...TOKEN, percent: 101, message: null, lines: [] }] }],
  ['result', 'nothing', null],
  ['result', 'another status', { results: [{ ...RESULT, status: 'done' }] }],
  ['result', 'one good and one bad', { results: [RESULT, { ...RESULT, output: undefined, attempt: 1.5 }] }],
  ['cancel', 'nothing', null],
  ['cancel', 'no force', { items: [{ ...TOKEN, reason: '' }] }],
  ['claim', 'nothing', null],
  ['claim', 'found by magic', { found_by: 'magic', state: {} }],
  ['push', 'nothing', null],
  ['push', 'a line without an owner', { ...PUSH, line: { epoch: 1, base_seq: 0, nonce: '' } }],
  ['push', 'a row without a record', { ...PUSH, rows: [{ uid: 'u', feed_id: 'f', epoch: 1, seq: 1 }] }],
  ['push', 'a record of no kind', { ...PUSH, rows: [{ ...ROW, record: { kind: 'none', uid: 'u' } }] }],
  ['pull', 'nothing', null],
  ['pull', 'a place before the first', { feed_id: 'f', after: { seq: -1, uid: '' } }],
  ['takeover', 'nothing', null],
  ['takeover', 'no line', { feed_id: 'f' }],
  ['handover', 'nothing', null],
  ['handover', 'a record that is none', { ...HAND_OVER, records: [{ kind: 'task', uid: 'u' }] }],
  ['reserve', 'nothing', null],
  ['reserve', 'another kind', { items: [{ kind: 'step', id: 'x', content_hash: '' }] }],
  ['locate', 'nothing', null],
  ['locate', 'no hops', { items: [], asked: [] }],
  ['locate', 'too long an id', { items: [{ kind: 'task', id: 'x'.repeat(600) }], hops: 0, asked: [] }],
  ['call', 'nothing', null],
  ['call', 'no input', { tool: 'task_status', hops: 0 }],
];

describe('a message that does not have the form of its method', () => {
  let scene: Scene;
  let peer: HandPeer;
  let uid: string;
  beforeAll(async () => {
    scene = await Scene.of(['a']);
    peer = await HandPeer.joins(scene, 'h', ['a']);
    ({ uid } = await scene.submit('a', task({ task_type: 'fn:hand' })));
    peer.holding = [tokenOf(await peer.leased(1))];
    await scene.pass(2_000);
    peer.beating = false;
    await scene.pass(100);
  });

  /** What the peer knows and does, but for how often it was asked. */
  const known = async () => {
    const { scheduler } = scene.peer('a');
    const { requests_served, ...entry } = scheduler.parts.peers.find('h')!;
    return JSON.stringify([
      entry,
      scheduler.parts.pool.running,
      scheduler.parts.feeds.counts,
      scheduler.parts.dependencies.size,
      await scene.task('a', uid),
    ]);
  };

  test.each(MALFORMED)('%s: %s', async (method, _what, params) => {
    const before = await known();
    await expect(peer.ask('a', method, params)).rejects.toMatchObject({ code: 'INVALID_MESSAGE', retryable: false });
    expect(await known()).toBe(before);
  });

  test('names the method and the place', async () => {
    await expect(peer.ask('a', 'lease', { leases: [{ ...LEASE, attempt: 'one' }], heirs: [] })).rejects.toThrow(
      /"lease".*leases\.0\.attempt/,
    );
  });

  test('of a method that does not exist is UNKNOWN_METHOD', async () => {
    await expect(peer.ask('a', 'usurp', {})).rejects.toMatchObject({ code: 'UNKNOWN_METHOD' });
    await expect(peer.ask('a', 'x'.repeat(10_000), {})).rejects.toMatchObject({ code: 'UNKNOWN_METHOD' });
  });

  test('as a notification is ignored', async () => {
    const before = await known();
    peer.network.notify('a', 'progress', { items: 'none' });
    await scene.pass(100);
    expect(await known()).toBe(before);
  });
});

/** A store that says what is active only when a test lets it. */
class SlowlyReadStore extends MemoryStore {
  readonly #read: Gate;

  constructor(read: Gate) {
    super();
    this.#read = read;
  }

  override get reader(): Reader {
    const reader = super.reader;
    return new Proxy(reader, {
      get:
        (_of, name: keyof Reader) =>
        async (...args: never[]) => {
          if (name === 'active') await this.#read.opened;
          return await (reader[name] as (...args: never[]) => unknown)(...args);
        },
    });
  }
}

describe('a peer that reads its store', () => {
  test('says so to what depends on it, and still works for others', async () => {
    const scene = new Scene();
    const read = gate();
    const started = scene.mesh.start('a', { store: new SlowlyReadStore(read) });
    await scene.pass(50);
    const peer = new HandPeer(scene, 'h');
    await scene.run(peer.network.connect('a'));
    const { scheduler } = scene.peer('a');
    const notReady = { code: 'NOT_READY', retryable: true };
    await expect(peer.ask('a', 'result', { results: [RESULT] })).rejects.toMatchObject(notReady);
    await expect(peer.ask('a', 'reserve', { items: [] })).rejects.toMatchObject(notReady);
    const writes: (() => Promise<unknown>)[] = [
      () => scheduler.api.submitTask(task()),
      () => scheduler.api.submitWorkflow(workflow({ name: 'w', steps: [{ step_id: 's', action: 'echo' }] })),
      () => scheduler.api.retryTask('u', { max_retries: undefined, timeout_ms: undefined }),
      () => scheduler.api.cancelTask('u', { reason: undefined, force: false }),
      () => scheduler.api.pauseQueue(undefined),
      () => scheduler.api.resumeQueue(),
      () => scheduler.api.clearQueue(undefined),
    ];
    for (const write of writes) await expect(scene.run(write())).rejects.toMatchObject(notReady);
    expect(await peer.ask('a', 'describe', {})).toMatchObject({ name: 'a' });
    const { worker_id } = scheduler.parts.pool.states(null)[0]!;
    expect(await peer.ask('a', 'lease', { leases: [{ ...LEASE, worker_id }], heirs: [] })).toEqual({ items: [] });
    read.open();
    await scene.run(started);
    await scene.submit('a', task());
  });
});

describe('call', () => {
  test('whose answer nests deeper than a frame may, or has more values, is answered with that', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    let deep: JsonValue = 1;
    for (let level = 0; level < 1_800; level++) deep = [deep];
    const answers: Record<string, JsonObject> = { deep: { deep }, wide: { wide: Array(1_000_000).fill(0) } };
    scene.scheduler('a').serveCalls(async ({ tool }) => answers[tool]!);
    for (const tool of ['deep', 'wide']) {
      expect(await peer.ask('a', 'call', { tool, input: {}, hops: 0 })).toMatchObject({
        error: { code: 'LIMIT_EXCEEDED', retryable: false },
      });
    }
  });

  test('runs a tool, and tells its error as an answer', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    const ask = () => peer.ask('a', 'call', { tool: 'echo', input: { x: 1 }, hops: 1 });
    expect(await ask()).toMatchObject({ error: { code: 'NOT_READY' } });
    scene.scheduler('a').serveCalls(async ({ tool, input, hops, caller }) => ({ tool, input, hops, caller }));
    expect(await ask()).toEqual({ output: { tool: 'echo', input: { x: 1 }, hops: 1, caller: { ...EVERYBODY } } });
  });
});

describe('a peer is believed only about itself (P9)', () => {
  test('progress and results of a lease that another holds change nothing unless they are its success', async () => {
    const scene = await Scene.of(['a']);
    const worker = await HandPeer.joins(scene, 'h', ['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'fn:hand' }));
    const lease = await worker.leased(1);
    worker.holding = [tokenOf(lease)];
    const other = await HandPeer.joins(scene, 'i', ['a']);
    other.holding = [tokenOf(lease)];
    await other.ask('a', 'progress', { items: [{ ...tokenOf(lease), percent: 50, message: 'mine', lines: [] }] });
    await other.result('a', lease, {
      status: 'failed',
      output: null,
      error: { code: 'X', message: '', retryable: false },
    });
    await scene.pass(1_000);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'running', progress: 0 });
    expect(other.cancels).toEqual([]);
  });

  describe('and hands over only a feed that it has had a part in', () => {
    const ROOT = '0'.repeat(20);
    const handOver = (peer: HandPeer, feed: FeedRecord) =>
      peer.ask('a', 'handover', {
        ...{ feed_id: feed.feed_id, line: currentLine(feed), root_uid: ROOT, part: 0, last: true },
        records: [taskRecord(ROOT, { status: 'completed' })],
      });
    const REFUSED = { code: 'INVALID_MESSAGE', retryable: false };

    /** A feed that `o` made, copied by `a` and then taken over. Its copy from then on is at `b`. */
    async function takenOver() {
      const scene = await Scene.of(['a', 'b']);
      const o = await HandPeer.joins(scene, 'o', ['a']);
      const theirs = new HandFeed(o, 'feedfeedfeedfeedfeed', ['a']);
      await scene.run(theirs.push('a', []));
      o.beating = false;
      const owned = () => scene.scheduler('a').parts.feeds.get(theirs.feed.feed_id);
      await scene.until('a owns it, and b copies it', () => owned()?.replicas.copies === 2);
      return { scene, o, theirs };
    }

    test('nobody hands over a feed that its owner has made and nobody else has owned', async () => {
      const scene = await Scene.of(['a', 'b']);
      const { feed } = scene.feed('a');
      const x = await HandPeer.joins(scene, 'x', ['a']);
      new HandFeed(x, feed.feed_id, []);
      await expect(handOver(x, newFeed(feed.feed_id, 'Z'))).rejects.toMatchObject(REFUSED);
      await expect(handOver(x, feed)).rejects.toMatchObject(REFUSED);
      expect(await scene.task('a', ROOT)).toBeUndefined();
    });

    test('a stranger is refused by an owner that took the feed over', async () => {
      const { scene, theirs } = await takenOver();
      const x = await HandPeer.joins(scene, 'x', ['a']);
      x.answers.set('pull', () => ({ feed: null, rows: [], whole: true, head_seq: 0, complete: true }));
      await expect(handOver(x, theirs.feed)).rejects.toMatchObject(REFUSED);
      expect(await scene.task('a', ROOT)).toBeUndefined();
    });

    test('so is one whose line has not lost, or whose history is of another feed', async () => {
      const { scene, theirs } = await takenOver();
      const x = await HandPeer.joins(scene, 'x', ['a']);
      const other = new HandFeed(x, theirs.feed.feed_id, []);
      await expect(handOver(x, other.feed)).rejects.toMatchObject(REFUSED);
      const mine = scene.scheduler('a').parts.feeds.get(theirs.feed.feed_id)!.feed;
      await expect(handOver(x, mine)).rejects.toMatchObject(REFUSED);
      expect(await scene.task('a', ROOT)).toBeUndefined();
    });

    test('the owner before is heard', async () => {
      const { scene, o, theirs } = await takenOver();
      expect(await handOver(o, theirs.feed)).toEqual({});
      expect((await scene.task('a', ROOT)).status).toBe('completed');
    });

    test('so is a follower that only the owner before knew', async () => {
      const { scene, theirs } = await takenOver();
      const f = await HandPeer.joins(scene, 'f', ['a']);
      const copy = new HandFeed(f, theirs.feed.feed_id, []);
      copy.feed = { ...theirs.feed, followers: [{ peer_id: 'f', synced: true }] };
      expect(await handOver(f, copy.feed)).toEqual({});
      expect((await scene.task('a', ROOT)).status).toBe('completed');
    });
  });

  test('a beat of another does not confirm a lease', async () => {
    const scene = await Scene.of(['a']);
    const worker = await HandPeer.joins(scene, 'h', ['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'fn:hand', at_most_once: true }));
    const lease = await worker.leased(1);
    const other = await HandPeer.joins(scene, 'i', ['a']);
    other.holding = [tokenOf(lease)];
    expect(await scene.ended('a', uid)).toMatchObject({ error: { code: 'WORKER_LOST' } });
  });
});
