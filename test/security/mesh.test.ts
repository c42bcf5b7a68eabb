/**
 * A named list of attacks of members on honest peers: each has a certificate, and does what that does not let it do, or
 * lies. Each is refused with the right code, nothing is changed, nothing grows. Those of who is no member are in
 * `strangers.test.ts`, those on statements, gossip, the DHT and the admin routes in `hints.test.ts`.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { requiresSchema } from '../../dag/schema.ts';
import { REQUESTS_SERVED_MAX } from '../../node/p2p/peer-stream.ts';
import type { Mesh } from '../../node/runtimes/mesh.ts';
import { feedIdOf } from '../../scheduler/ids.ts';
import { COPIED_FEEDS_MAX, COPIED_FEEDS_PER_PEER_MAX } from '../../scheduler/limits.ts';
import type { Lease } from '../../scheduler/messages.ts';
import { METHOD_ROLES, type Method, ROLES, type Role } from '../../scheduler/roles.ts';
import { currentLine, newFeed, openLine } from '../../scheduler/storage/feed-lines.ts';
import { eventually } from '../harness/eventually.ts';
import { resultOf, tokenOf } from '../scheduler/hand-peer.ts';
import { ANSWERED, CLOSED, codeOf, DROPPED, type LyingMember, type Talk } from './member.ts';
import { call, SecuredMesh, stateOf } from './secured-mesh.ts';

/** Nobody is given up for being silent: only what is said counts. */
const PATIENT_MS = 300_000;
const ACTION = 'fn:hand';

let mesh: SecuredMesh;
/** The owner of everything that is attacked. */
let a: Mesh;
/** Its follower. */
let b: Mesh;
/** Runs an attempt of `uid`, a task of `a`. */
let worker: LyingMember;
let workerTalk: Talk;
let lease: Lease;
let uid: string;
let feedId: string;

beforeAll(async () => {
  mesh = await SecuredMesh.of({ takeover_ms: PATIENT_MS }, ['a']);
  a = mesh.peer('a');
  b = await mesh.join('b', {}, { shell: { allow: ['sleep'] } });
  worker = (await mesh.liar(['work'])).works(ACTION, 1);
  workerTalk = await worker.talk(a.network);
  ({ task_id: uid } = (await call(a, 'task_submit', { task_type: ACTION })) as { task_id: string });
  lease = await worker.leased(1);
  ({ uid, feed_id: feedId } = lease);
  await eventually('b has a copy', () => ownedFeed().feed.followers.some(({ synced }) => synced));
  await worker.beat(workerTalk, { holding: [tokenOf(lease)] });
});
afterAll(() => mesh[Symbol.asyncDispose]());

async function ends(task_id: string): Promise<void> {
  await eventually('it is done', async () => (await call(a, 'task_status', { task_id }))['status'] === 'completed');
}
const ownedFeed = () => a.scheduler.parts.feeds.get(feedId)!;
const taskOf = async (id: string) => (await a.store.reader.get('task', id))!;

/** One for each set of roles. */
const liars = new Map<string, LyingMember>();
interface Attack {
  x: LyingMember;
  talk: Talk;
  unchanged(): Promise<void>;
}

/** A connected member with these roles, and the state of `a` and `b` before and after what it does. */
async function attacking(roles: Role[], at: Mesh = a): Promise<Attack> {
  const x = liars.get(roles.join()) ?? (await mesh.liar(roles));
  liars.set(roles.join(), x);
  x.answers.clear();
  const talk = await x.talking(at.network);
  await settled();
  const before = [await stateOf(a), await stateOf(b)];
  return { x, talk, unchanged: async () => expect([await stateOf(a), await stateOf(b)]).toEqual(before) };
}

/** Both know the same members, and the copy is whole. */
async function settled(): Promise<void> {
  await eventually('a and b have and know the same', async () => {
    const [one, other] = [await stateOf(a), await stateOf(b)];
    const heads = [a, b].map(({ store }) => store.feeds.get(feedId)?.seq);
    return heads[0] === heads[1] && JSON.stringify(one['members']) === JSON.stringify(other['members']);
  });
}

/** All roles but these, without `admin` if others are left. */
function without(roles: readonly Role[]): Role[] {
  const left = ROLES.filter((role) => role !== 'admin' && !roles.includes(role));
  return left.length > 0 ? left : ['admin'];
}

/** A message of each method that would have an effect, if it came from who may send it. */
function messages(x: LyingMember): Record<Method, unknown> {
  const line = { epoch: 99, base_seq: 0, owner: x.self, nonce: 'x' };
  const mine = { uid: 'u', feed_id: 'f', epoch: 1, attempt: 1 };
  const { worker_id } = a.scheduler.parts.pool.states(null)[0]!;
  const work = { action: 'echo', payload: {}, requires: requiresSchema.parse({}), timeout_ms: null };
  return {
    hello: x.state,
    beat: { state: x.state, holding: [], knows: [] },
    describe: {},
    lease: { leases: [{ ...mine, ...work, worker_id }], heirs: [] },
    refuse: { items: [{ ...tokenOf(lease), reason: 'handed_back', message: '' }] },
    progress: { items: [{ ...tokenOf(lease), percent: 50, message: 'x', lines: [] }] },
    result: x.results(resultOf(lease)),
    cancel: { items: [{ ...mine, force: true, reason: '' }] },
    claim: { found_by: 'connected', state: { ...x.state, name: 'claimed' } },
    push: { feed_id: 'f'.repeat(20), line: { ...line, epoch: 1 }, prev_seq: 0, head_seq: 1, rows: [] },
    pull: { feed_id: feedId, after: { seq: 0, uid: '' } },
    takeover: { feed_id: feedId, line },
    handover: { feed_id: feedId, line, root_uid: 'u', part: 0, last: true, records: [] },
    reserve: { items: [{ kind: 'task', id: 'x', content_hash: '' }] },
    locate: { items: [], hops: 0, asked: [] },
    call: { tool: 'task_submit', input: { task_type: 'echo' }, hops: 0 },
  };
}

describe('the role is missing', () => {
  const needing = (as: 'caller' | 'callee') =>
    (Object.keys(METHOD_ROLES) as Method[]).filter((method) => METHOD_ROLES[method][as].length > 0);
  let porter: Mesh;

  beforeAll(async () => {
    porter = await mesh.join('porter', { roles: ['admin'] });
  });

  test.each(needing('caller'))('%s by a member that may not send it', async (method) => {
    const { x, talk, unchanged } = await attacking(without(METHOD_ROLES[method].caller));
    expect(codeOf(await talk.ask(method, messages(x)[method]))).toBe('FORBIDDEN');
    await unchanged();
  });

  test.each(needing('callee'))('%s at a member that may not do it', async (method) => {
    const { x, talk } = await attacking(['submit', 'work', 'replicate'], porter);
    const before = await stateOf(porter);
    expect(codeOf(await talk.ask(method, messages(x)[method]))).toBe('FORBIDDEN');
    expect(await stateOf(porter)).toEqual(before);
  });

  test('every method, on a stream that was opened before its opener was revoked', async () => {
    const x = await mesh.liar();
    const talk = await x.talk(a.network);
    await a.meshRequest('revoke', { target: x.self });
    await settled();
    const before = [await stateOf(a), await stateOf(b)];
    const asked = Object.entries(messages(x)).map(([method, params]) => talk.ask(method, params));
    for (const answer of await Promise.all(asked)) expect(['NOT_A_MEMBER', CLOSED]).toContain(codeOf(answer));
    await eventually('it is cut off', () => talk.raw.ended);
    await expect(x.talk(a.network)).rejects.toThrow();
    expect([await stateOf(a), await stateOf(b)]).toEqual(before);
  });
});

describe('a lease of another', () => {
  const wrong = async () => await attacking(['work']);

  test('a success for it, well signed', async () => {
    const { x, talk, unchanged } = await wrong();
    expect(codeOf(await talk.ask('result', x.results(resultOf(lease, { output: 'forged' }))))).toBe(ANSWERED);
    await unchanged();
  });

  test('a failure for it', async () => {
    const { x, talk, unchanged } = await wrong();
    const failed = { status: 'failed' as const, output: null, error: { code: 'X', message: '', retryable: false } };
    expect(codeOf(await talk.ask('result', x.results(resultOf(lease, failed))))).toBe(ANSWERED);
    await unchanged();
  });

  test("a result that is signed by the lease's worker, brought by another", async () => {
    const { talk, unchanged } = await wrong();
    expect(codeOf(await talk.ask('result', worker.results(resultOf(lease, { output: 'stolen' }))))).toBe('FORGED');
    await unchanged();
  });

  test('a result of its worker with a signature over another one', async () => {
    const before = await stateOf(a);
    const { signature } = worker.results(resultOf(lease, { output: 'good' }));
    const message = { results: [resultOf(lease, { output: 'other' })], signature };
    expect(codeOf(await workerTalk.ask('result', message))).toBe('FORGED');
    expect(await stateOf(a)).toEqual(before);
  });

  test('progress of it, with lines for its log', async () => {
    const { talk, unchanged } = await wrong();
    const line = { at: new Date().toISOString(), attempt: 1, stream: 'log', line: 'forged' };
    const items = [{ ...tokenOf(lease), percent: 99, message: 'mine', lines: [line] }];
    expect(codeOf(await talk.ask('progress', { items }))).toBe(ANSWERED);
    await unchanged();
  });

  test.each(['busy', 'unable', 'handed_back'])('it is refused (%s)', async (reason) => {
    const { talk, unchanged } = await wrong();
    expect(codeOf(await talk.ask('refuse', { items: [{ ...tokenOf(lease), reason, message: '' }] }))).toBe(ANSWERED);
    await unchanged();
  });

  test('it is called back at its worker', async () => {
    await call(a, 'task_submit', { task_type: 'shell', payload: { command: ['sleep', '600'] } });
    const { pool } = b.scheduler.parts;
    await eventually('b runs it', () => pool.running === 1);
    const { talk, unchanged } = await attacking(['submit'], b);
    const items = pool.holding(a.network.self).map((token) => ({ ...token, force: true, reason: 'mine' }));
    expect(codeOf(await talk.ask('cancel', { items }))).toBe(ANSWERED);
    await unchanged();
    expect(pool.running).toBe(1);
  });

  test('a worker that answers late: a failure of an attempt that it gave back, and one of the next attempt', async () => {
    const one = (await mesh.liar(['work'])).works('fn:late', 1);
    const talk = await one.talk(a.network);
    await call(a, 'task_submit', { task_type: 'fn:late' });
    const first = await one.leased(1);
    await talk.ask('refuse', { items: [{ ...tokenOf(first), reason: 'handed_back', message: '' }] });
    await one.beat(talk);
    const second = await one.leased(2);
    // A lease may go out before its own row is on the disk.
    await eventually('its row is there', async () => (await taskOf(second.uid)).attempt === 2);
    await settled();
    const before = await stateOf(a);
    const failed = { status: 'failed' as const, output: null, error: { code: 'X', message: '', retryable: false } };
    for (const late of [first, { ...second, attempt: 7 }]) {
      expect(codeOf(await talk.ask('result', one.results(resultOf(late, failed))))).toBe(ANSWERED);
    }
    expect(await stateOf(a)).toEqual(before);
    await talk.ask('result', one.results(resultOf(second)));
    await eventually('it is done', async () => (await taskOf(second.uid)).status === 'completed');
  });

  test('a result for a task that has ended, with another output', async () => {
    const one = (await mesh.liar(['work'])).works('fn:twice', 1);
    const talk = await one.talk(a.network);
    await call(a, 'task_submit', { task_type: 'fn:twice' });
    const held = await one.leased(1);
    await talk.ask('result', one.results(resultOf(held, { output: 'first' })));
    await settled();
    const before = await stateOf(a);
    expect(codeOf(await talk.ask('result', one.results(resultOf(held, { output: 'second' }))))).toBe(ANSWERED);
    expect(await stateOf(a)).toEqual(before);
    expect(await taskOf(held.uid)).toMatchObject({ status: 'completed', output: 'first' });
  });
});

describe('a feed of another', () => {
  const lineOf = (x: LyingMember) => ({ epoch: 99, base_seq: 0, owner: x.self, nonce: 'x' });
  const owner = async () => await attacking(['submit', 'work', 'replicate']);

  test('a takeover by who is no follower of it', async () => {
    const { x, talk, unchanged } = await owner();
    const { feed } = ownedFeed();
    x.answers.set('pull', () => pullAnswer(x, openLine(feed, x.self, 0, 'x', 98)));
    await talk.ask('takeover', { feed_id: feedId, line: lineOf(x) });
    await x.beat(talk);
    await unchanged();
  });

  test('a beat that says that it is owned elsewhere', async () => {
    const { x, talk, unchanged } = await owner();
    const { owner: _self, ...line } = lineOf(x);
    x.answers.set('pull', () => pullAnswer(x, openLine(ownedFeed().feed, x.self, 0, 'x', 98)));
    await x.beat(talk, { state: { feeds: [{ feed_id: feedId, ...line }] } });
    await x.beat(talk);
    await unchanged();
  });

  test('the same at its follower: the copy stays that of its owner', async () => {
    const { x, talk, unchanged } = await attacking(['submit', 'replicate'], b);
    const { owner: _self, ...line } = lineOf(x);
    x.answers.set('pull', () => pullAnswer(x, openLine(ownedFeed().feed, x.self, 0, 'x', 98)));
    await x.beat(talk, { state: { feeds: [{ feed_id: feedId, ...line }] } });
    await talk.ask('takeover', { feed_id: feedId, line: lineOf(x) });
    await eventually('it was asked for the feed', () => x.asked.some(({ method }) => method === 'pull'));
    await x.beat(talk);
    await unchanged();
  });

  test.each(['a', 'b'])("a push in its owner's name, at %s", async (at) => {
    const { talk, unchanged } = await attacking(['submit'], mesh.peer(at));
    const head = a.store.feeds.get(feedId)!.seq;
    const push = { feed_id: feedId, line: currentLine(ownedFeed().feed), prev_seq: head, head_seq: head + 1 };
    expect(codeOf(await talk.ask('push', { ...push, rows: [tombstone(uid, head + 1)] }))).toBe('INVALID_MESSAGE');
    await unchanged();
  });

  test.each(['a', 'b'])('a push in a line of its own, at %s', async (at) => {
    const { x, talk, unchanged } = await attacking(['submit', 'replicate'], mesh.peer(at));
    x.answers.set('pull', () => pullAnswer(x, openLine(ownedFeed().feed, x.self, 0, 'x', 98)));
    const push = { feed_id: feedId, line: lineOf(x), prev_seq: 0, head_seq: 1, rows: [tombstone(uid, 1, 99)] };
    expect(codeOf(await talk.ask('push', push))).toMatch(/^(NO_COPY|INVALID_MESSAGE)$/);
    await unchanged();
  });

  test.each(['push', 'pull'])('%s of what a peer remembers of itself alone', async (method) => {
    const { x, talk, unchanged } = await owner();
    const line = { ...lineOf(x), epoch: 1 };
    const push = { feed_id: 'local', line, prev_seq: 0, head_seq: 9, rows: [tombstone('peer', 9)] };
    const answer = await talk.ask(method, method === 'push' ? push : { feed_id: 'local', after: { seq: 0, uid: '' } });
    if (method === 'push') expect(codeOf(answer)).toBe('INVALID_MESSAGE');
    else expect(answer).toMatchObject({ result: { feed: null, rows: [] } });
    await unchanged();
  });

  test('a hand-over into it by who has had no part in it', async () => {
    const { x, talk, unchanged } = await owner();
    const record = { kind: 'tombstone', uid, cleared_at: new Date().toISOString() };
    const part = { root_uid: uid, part: 0, last: true, records: [record] };
    x.answers.set('pull', () => pullAnswer(x, openLine(ownedFeed().feed, x.self, 0, 'x', 98)));
    for (const line of [lineOf(x), { ...lineOf(x), epoch: 1 }, currentLine(ownedFeed().feed)]) {
      expect(codeOf(await talk.ask('handover', { feed_id: feedId, line, ...part }))).toBe('INVALID_MESSAGE');
    }
    await unchanged();
  });

  test('rows that are malformed, oversized or of another feed, in a feed of its own that it brings', async () => {
    const { x, talk, unchanged } = await attacking(['submit', 'replicate'], b);
    const text = (value: unknown) => ({
      epoch: 1,
      seq: 1,
      text: typeof value === 'string' ? value : JSON.stringify(value),
    });
    const ownFeed = (nonce: string) => {
      const followers = [{ peer_id: b.network.self, synced: true }];
      return x.signatures.feed({ ...newFeed(feedIdOf(x.self, nonce), x.self, nonce), followers });
    };
    const record = ownFeed('some');
    const bad: [string, unknown[]][] = [
      ['no JSON', [text('{')]],
      ['no record', [text({ kind: 'none', uid: 'u' })]],
      ['of a wrong shape', [text({ ...record, lines: [] })]],
      ['too deep', [text(`${'['.repeat(3_000)}${']'.repeat(3_000)}`)]],
      ['too large', [text(`"${'x'.repeat(15.5 * 1024 * 1024)}"`)]],
      ['a task of another feed', [text(await taskOf(uid))]],
      ['what its follower remembers of itself', [text({ kind: 'peer', uid: 'peer', main_feed: record.feed_id })]],
      ['the record of another feed', [text(ownedFeed().feed)]],
      ['of a later commit', [{ ...text(record), seq: 7 }]],
      ['of another line', [{ ...text(record), epoch: 7 }]],
    ];
    for (const [at, [what, rows]] of bad.entries()) {
      const feed = ownFeed(String(at));
      x.answers.set('pull', () => ({ feed, rows, whole: true, head_seq: 1, complete: true }) as never);
      const push = { feed_id: feed.feed_id, line: currentLine(feed), prev_seq: 0, head_seq: 1, rows };
      expect([what, codeOf(await talk.ask('push', push))]).toEqual([what, 'INVALID_MESSAGE']);
    }
    await unchanged();
  });

  test('feeds without end, to fill a disk', async () => {
    const { x, talk } = await attacking(['submit', 'replicate'], b);
    const count = COPIED_FEEDS_MAX + 100;
    const feeds = Array.from({ length: count }, (_, at) => newFeed(feedIdOf(x.self, `${at}`), x.self, `${at}`));
    const followers = [{ peer_id: b.network.self, synced: true }];
    x.answers.set('pull', ({ feed_id }) => {
      return pullAnswer(x, { ...feeds.find((feed) => feed.feed_id === feed_id)!, followers });
    });
    const asked = feeds.map((feed) => {
      const push = { feed_id: feed.feed_id, line: currentLine(feed), prev_seq: 1, head_seq: 1, rows: [] };
      return talk.ask('push', push);
    });
    const codes = (await Promise.all(asked)).map(codeOf);
    expect(codes.filter((code) => code === ANSWERED)).toHaveLength(COPIED_FEEDS_PER_PEER_MAX);
    expect(codes.filter((code) => code === 'NO_COPY')).toHaveLength(count - COPIED_FEEDS_PER_PEER_MAX);
    // The copies of others are not crowded out.
    await call(a, 'task_submit', { task_id: 'after', task_type: 'echo' });
    await ends('after');
    await settled();
    expect([...b.scheduler.parts.followed.all()].length).toBeLessThan(COPIED_FEEDS_MAX / 2);
  });
});

describe('what a member says of itself and of others', () => {
  test('the release of an id that another has reserved', async () => {
    const holder = (await attacking(['submit', 'replicate'])).talk;
    const { x, talk, unchanged } = await attacking(['submit', 'work', 'replicate']);
    const item = { kind: 'task', id: 'reserved', content_hash: 'h' };
    const mine = await holder.ask('reserve', { items: [item] });
    await talk.ask('reserve', { items: [{ ...item, release: true }] });
    expect(await talk.ask('reserve', { items: [item] })).toEqual(mine);
    expect(JSON.stringify(mine)).not.toContain(x.self);
    await unchanged();
  });

  test('a beat that knows absurd peers and addresses', async () => {
    const { x, talk, unchanged } = await attacking(['work']);
    const addresses = [
      ...['/ip4/169.254.169.254/tcp/80', '/ip4/10.0.0.1/tcp/22', '/ip4/0.0.0.0/tcp/1', '/ip4/224.0.0.1/tcp/1'],
      ...[`${a.network.addresses()[0]}`, '/dns4/localhost/tcp/25', '/unix/tmp/socket', 'absurd', '/ip6/::1/udp/53'],
    ];
    const names = [x.self, b.network.self, 'nobody', '12D3KooW', STRANGER];
    for (let beat = 0; beat < 3; beat++) {
      const knows = names.map((peer_id) => ({ peer_id, addresses }));
      expect(codeOf(await x.beat(talk, { knows }))).toBe(ANSWERED);
    }
    // While it is tried, once, it is listed.
    await eventually('the name is forgotten', () => !a.network.list().some(({ peer_id }) => peer_id === STRANGER));
    await unchanged();
    expect(a.network.addressesOf(STRANGER)).toEqual([]);
  });

  test('a beat with more than a beat may have', async () => {
    const { x, talk, unchanged } = await attacking(['work']);
    const known = { peer_id: STRANGER, addresses: [] };
    const tooMuch = [
      { knows: Array(65).fill(known) },
      { holding: Array(65_537).fill(tokenOf(lease)) },
      { state: { ...x.state, name: 'x'.repeat(257) } },
      { state: { ...x.state, addresses: Array(33).fill('/ip4/127.0.0.1/tcp/1') } },
      { state: { ...x.state, feeds: Array(1_025).fill({ feed_id: 'f', epoch: 1, base_seq: 0, nonce: '' }) } },
    ];
    const good = { state: x.state, holding: [], knows: [] };
    for (const each of tooMuch) expect(codeOf(await talk.ask('beat', { ...good, ...each }))).toBe('INVALID_MESSAGE');
    await unchanged();
  });

  test('a state that offers what its certificate does not let it, and the name of another', async () => {
    const { x, talk } = await attacking(['submit', 'replicate']);
    x.works('fn:bait');
    await x.beat(talk, { state: { name: 'b' } });
    await call(a, 'task_submit', { task_id: 'baited', task_type: 'echo', requires: { peers: [b.network.self] } });
    await ends('baited');
    expect(x.leases).toEqual([]);
  });
});

describe('messages that are none', () => {
  const METHODS = Object.keys(METHOD_ROLES) as Method[];
  const all: Role[] = ['submit', 'work', 'replicate'];

  test.each(METHODS.filter((method) => method !== 'describe'))('%s without the form of its method', async (method) => {
    const { talk, unchanged } = await attacking(all);
    for (const params of [null, 'x', [], 7, { [method]: true }, { items: 'x' }]) {
      expect(codeOf(await talk.ask(method, params))).toBe('INVALID_MESSAGE');
    }
    await unchanged();
  });

  test('methods that do not exist', async () => {
    const { talk, unchanged } = await attacking(all);
    for (const method of ['usurp', '__proto__', 'constructor', 'toString', 'x'.repeat(64)]) {
      expect(codeOf(await talk.ask(method, {}))).toBe('UNKNOWN_METHOD');
    }
    await unchanged();
  });

  const header = (bytes: number) => {
    const frame = Buffer.alloc(4);
    frame.writeUInt32BE(bytes);
    return frame;
  };
  const framed = (body: Buffer) => Buffer.concat([header(body.length), body]);
  const FRAMES: [string, Uint8Array][] = [
    ['an empty frame', header(0)],
    ['a frame of 4 GB', header(0xffffffff)],
    ['bytes that are no frame', Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(10))],
    ['a frame that is no msgpack', framed(Buffer.alloc(100, 0xc1))],
    ['a frame that nests without end', framed(Buffer.alloc(100_000, 0x91))],
    ['a list that says it has four thousand million values', framed(Buffer.from('dfffffffff', 'hex'))],
    ['a message that is a number', framed(Buffer.from([7]))],
    ['an answer to what was never asked', framed(Buffer.from('82a26964ce7fffffffa6726573756c7401', 'hex'))],
  ];

  test.each(FRAMES)('%s', async (_what, bytes) => {
    const { x, talk, unchanged } = await attacking(all);
    talk.raw.bytes(bytes);
    expect((await talk.raw.goodbye()).code).toBe('MALFORMED_FRAME');
    expect(codeOf(await talk.ask('describe', {}))).toBe(CLOSED);
    await unchanged();
    expect(codeOf(await (await x.talk(a.network)).ask('describe', {}))).toBe(ANSWERED);
  });
});

describe('floods', () => {
  const METHODS = Object.keys(METHOD_ROLES) as Method[];
  const COUNT = REQUESTS_SERVED_MAX + 1_000;
  const CALLS = 200;

  test.each(METHODS)('%s, while others are served', async (method) => {
    const { x, talk } = await attacking(['submit', 'work', 'replicate']);
    const memory = () => [a.network.list().length, [...a.scheduler.parts.followed.all()].length, a.store.feeds.size];
    const before = memory();
    const flood = talk.flood(method, messages(x)[method], method === 'call' ? CALLS : COUNT);
    const honest = await b.network.request(a.network.self, 'describe', {}, 60_000);
    expect(honest).toMatchObject({ name: 'a' });
    const { status } = await call(b, 'task_status', { task_id: 'baited' });
    expect(status).toBe('completed');
    const codes = await flood;
    expect([...codes.keys()].filter((code) => !FLOODED.has(code))).toEqual([]);
    await eventually('nothing is left of it', () => JSON.stringify(memory()) === JSON.stringify(before));
  });
});

test('a member that may keep copies and not submit calls no tool for a client', async () => {
  const { talk } = await attacking(['replicate']);
  for (const [tool, input] of [
    ['task_submit', { task_id: 'of-no-client', task_type: 'echo', payload: {} }],
    ['worker_register', { worker_id: 'of-no-client', capabilities: ['echo'] }],
    ['queue_pause', {}],
    ['task_list', {}],
  ] as const) {
    const answer = await talk.ask('call', { tool, input, hops: 0 });
    expect([tool, answer]).toMatchObject([tool, { result: { error: { code: 'FORBIDDEN' } } }]);
  }
  await expect(call(a, 'task_status', { task_id: 'of-no-client' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

/** What one of a flood may be answered with. */
const FLOODED = new Set([ANSWERED, DROPPED, 'PEER_BUSY', 'TOO_BUSY', 'NO_COPY', 'INVALID_MESSAGE', 'FORGED']);
const STRANGER = '12D3KooWBP3yFMMFgx8hVW2d7fGsxAVxgmUqcXMbTFZo5w6bxFWr';

/** As the owner of a feed answers that has one commit, its record. */
function pullAnswer(x: LyingMember, feed: Parameters<LyingMember['signatures']['feed']>[0]): never {
  const record = x.signatures.feed(feed);
  const row = { epoch: currentLine(record).epoch, seq: 1, text: JSON.stringify(record) };
  return { feed: record, rows: [row], whole: true, head_seq: 1, complete: true } as never;
}

function tombstone(of: string, seq: number, epoch = 1) {
  return { epoch, seq, text: JSON.stringify({ kind: 'tombstone', uid: of, cleared_at: new Date().toISOString() }) };
}
