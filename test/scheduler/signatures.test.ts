/** What is signed cannot be forged by who copies it, hands it over, or brings it as a result (P9). */
import { describe, expect, test } from 'vitest';
import { parseWorkflow } from '../../dag/schema.ts';
import { contentHash, feedIdOf } from '../../scheduler/ids.ts';
import type { AttemptResult, Lease } from '../../scheduler/messages.ts';
import type { FeedRecord, FlowRecord, ResultSignature, TaskRecord } from '../../scheduler/records.ts';
import { Signatures, signatoriesOf } from '../../scheduler/signatures.ts';
import { currentLine, newFeed, openLine } from '../../scheduler/storage/feed-lines.ts';
import { definitionUid } from '../../scheduler/uids.ts';
import { simulatedSigner } from '../simulation/simulated-signer.ts';
import { HandFeed } from './hand-feed.ts';
import { HandPeer, hand, resultOf } from './hand-peer.ts';
import { taskRecord } from './records.ts';
import { Scene } from './scene.ts';

const FEED = feedIdOf('o', '');
const of = (peer: string) => new Signatures({ signer: simulatedSigner(peer), self: peer });
const [owner, worker, other] = ['o', 'w', 'x'].map((name) => of(name)) as [Signatures, Signatures, Signatures];

const leaseOf = (uid: string) => ({ uid, feed_id: FEED, epoch: 1, attempt: 3 });
const resultsOf = (count: number): AttemptResult[] =>
  Array.from({ length: count }, (_, at) => resultOf(leaseOf(`t${at}`), { output: { at } }));

/** A task of a step that a worker ended with this result. */
function completed(
  result: AttemptResult,
  signed: ResultSignature | undefined,
  over: Partial<TaskRecord> = {},
): TaskRecord {
  const { uid, output, attempt } = result;
  const record = taskRecord(uid, { workflow_uid: 'wf', status: 'completed', output, attempt, peer_id: 'w' });
  return { ...record, ...(signed && { signed_result: signed }), ...over };
}

const definition = (name: string): Extract<FlowRecord, { kind: 'definition' }> => ({
  kind: 'definition',
  uid: definitionUid('wf'),
  workflow: parseWorkflow({ workflow_id: 'w', name, steps: [{ step_id: 'a', action: 'echo' }] }),
});

describe('what a record of a feed says', () => {
  const signatories = signatoriesOf(newFeed(FEED, 'o'));

  test.for([1, 2, 3, 5, 8, 13])('of %i results in one frame, each is signed for itself', (count) => {
    const results = resultsOf(count);
    const signed = owner.ofFrame('w', results, worker.frame(results).signature)!;
    results.forEach((result, at) => {
      expect(other.isForged(signatories, completed(result, signed[at]))).toBe(false);
      expect(other.isForged(signatories, completed(result, signed[at], { output: 'other' }))).toBe(true);
      expect(other.isForged(signatories, completed(result, signed[(at + 1) % count], { uid: 'z' }))).toBe(true);
    });
  });

  test('is forged when the frame was signed by another worker, or has another result', () => {
    const results = resultsOf(3);
    const { signature } = worker.frame(results);
    expect(owner.ofFrame('x', results, signature)).toBeNull();
    expect(owner.ofFrame('w', resultsOf(4), signature)).toBeNull();
    const [signed] = of('x').ofFrame('x', results, of('x').frame(results).signature)!;
    expect(other.isForged(signatories, completed(results[0]!, signed))).toBe(true); // `w` had the lease
  });

  test('is forged when nobody signed how it completed; a failure may be the word of its owner', () => {
    const [result] = resultsOf(1);
    expect(other.isForged(signatories, completed(result!, undefined))).toBe(true);
    expect(other.isForged(signatories, completed(result!, undefined, { status: 'failed' }))).toBe(false);
    expect(other.isForged(signatories, completed(result!, undefined, { status: 'running', output: null }))).toBe(false);
  });

  test('is forged when what is to be done is another, or signed by who never owned the feed', () => {
    const accepted = owner.accepted(FEED, definition('one'));
    expect(other.isForged(signatories, accepted)).toBe(false);
    expect(other.isForged(signatories, { ...accepted, workflow: definition('two').workflow })).toBe(true);
    expect(other.isForged(signatories, of('x').accepted(FEED, definition('one')))).toBe(true);
    expect(other.isForged({ ...signatories, feed_id: 'another' }, accepted)).toBe(true);
    const task = owner.accepted(FEED, taskRecord('t', { payload: { n: 1 } }));
    expect(other.isForged(signatories, { ...task, status: 'running' })).toBe(false);
    expect(other.isForged(signatories, { ...task, payload: { n: 2 } })).toBe(true);
  });

  test('may be unsigned up to the commit at which the mesh was secured, and never says less than was signed', () => {
    const old = newFeed('old', 'o');
    const opened = owner.opening(openLine(old, 'o', 7, 'n'), old, 7);
    const since = { ...signatoriesOf(opened), feed_id: FEED };
    expect(opened.unsigned_to_seq).toBe(7);
    expect(other.isForged(since, definition('one'), 7)).toBe(false);
    expect(other.isForged(since, definition('one'), 8)).toBe(true);
    const accepted = owner.accepted(FEED, definition('one'));
    expect(other.isForged(since, { ...accepted, workflow: definition('two').workflow }, 7)).toBe(true);
    const again = owner.opening(openLine(owner.feed(opened), 'o', 9, 'm'), owner.feed(opened), 9);
    expect(again.unsigned_to_seq).toBe(7);
  });

  test('of who owned it is lawful from the peer that made it on, each named by the one before', () => {
    const made = owner.feed({ ...newFeed(FEED, 'o'), followers: [{ peer_id: 'w', synced: true }] });
    const taken = worker.feed(openLine(made, 'w', 5, 'n'));
    expect(other.isLawful(made)).toBe(true);
    expect(other.isLawful(taken)).toBe(true);
    expect(other.isLawful(owner.feed(openLine(made, 'o', 5, 'n')))).toBe(true); // it only restarted
    expect(other.isLawful(of('x').feed(openLine(made, 'x', 5, 'n')))).toBe(false);
    const [first, second] = taken.lines;
    expect(other.isLawful({ ...taken, lines: [first!, { ...second!, owner: 'x' }] })).toBe(false);
    expect(other.isLawful({ ...taken, lines: [{ ...first!, owner: 'x' }] })).toBe(false);
    expect(other.isLawful({ ...taken, lines: [first!, { ...second!, owner: 'x', epoch: 9 }] })).toBe(false);
    const unsynced = owner.feed({ ...newFeed(FEED, 'o'), followers: [{ peer_id: 'w', synced: false }] });
    expect(other.isLawful(worker.feed(openLine(unsynced, 'w', 5, 'n')))).toBe(false);
  });

  test('of its replica set is the word of the owner of its last line', () => {
    const feed = owner.feed(newFeed(FEED, 'o'));
    expect(other.isOfOwner(feed)).toBe(true);
    expect(other.isOfOwner({ ...feed, followers: [{ peer_id: 'x', synced: true }] })).toBe(false);
    expect(other.isOfOwner(openLine(feed, 'x', 1, 'n'))).toBe(false);
    expect(other.isOfOwner(newFeed(FEED, 'o'))).toBe(false);
  });
});

describe('a result that comes to the next owner of its feed', () => {
  const leases = [0, 1, 2].map((at) => ({ ...leaseOf(`t${at}`), payload: { at } })) as unknown as Lease[];
  const results = leases.map(({ payload, ...lease }, at) => {
    const grant = worker.grantsOf(leases, owner.leases('w', leases).signature)(at);
    return { ...resultOf(lease), granted_by: 'o', payload_hash: contentHash(payload), ...(grant && { grant }) };
  });

  test('counts for the worker to which the owner before gave the lease', () => {
    for (const result of results) expect(other.isGranted('w', result)).toBe(true);
  });

  test('counts for no other worker, lease, payload or owner, and not without a signature', () => {
    const [first, second] = results as [AttemptResult, AttemptResult];
    const { grant: _grant, ...bare } = first;
    expect(other.isGranted('x', first)).toBe(false);
    expect(other.isGranted('w', { ...first, attempt: 4 })).toBe(false);
    expect(other.isGranted('w', { ...first, payload_hash: second.payload_hash })).toBe(false);
    expect(other.isGranted('w', { ...first, granted_by: 'x' })).toBe(false);
    expect(other.isGranted('w', bare)).toBe(false);
  });
});

/** A real peer `f` in a secured mesh that follows a feed of `o`, with its first commit. */
async function following(): Promise<{ scene: Scene; feed: HandFeed; x: HandPeer }> {
  const scene = await Scene.of(['f'], { signs: true });
  const peer = await HandPeer.joins(scene, 'o', ['f']);
  const feed = new HandFeed(peer, FEED, ['f', 'x']);
  feed.commit(owner.feed(feed.feed));
  await scene.run(feed.push('f', []));
  await scene.pass(100);
  return { scene, feed, x: await HandPeer.joins(scene, 'x', ['f']) };
}

/** What `f` makes of what a follower, who is not the owner, answers to its pulls. */
async function pulled(by: (feed: HandFeed, x: HandPeer) => HandFeed) {
  const { scene, feed, x } = await following();
  const theirs = by(feed, x);
  const { followed } = scene.scheduler('f').parts;
  const catchUp = () => scene.run(followed.inOrder(FEED, () => followed.catchUp('x', FEED)));
  return { scene, theirs, catchUp, head: () => scene.peer('f').store.feeds.get(FEED)!.seq };
}

/** The same history at another peer, which has more of it. */
function copyAt(peer: HandPeer, { feed, rows, head }: HandFeed, ...more: FlowRecord[]): HandFeed {
  const copy = new HandFeed(peer, FEED, []);
  copy.rows.clear();
  for (const [uid, row] of rows) copy.rows.set(uid, row);
  copy.feed = feed;
  copy.head = head;
  copy.commit(...more);
  return copy;
}

describe('a pull from a follower', () => {
  test('brings what its owner and its workers have signed', async () => {
    const accepted = owner.accepted(FEED, taskRecord('t'));
    const { catchUp, head } = await pulled((feed, x) => copyAt(x, feed, accepted));
    await catchUp();
    expect(head()).toBe(3);
  });

  const forgeries: [string, (feed: FeedRecord) => FlowRecord][] = [
    ['a task that nobody accepted', () => taskRecord('t')],
    ['a task that the follower itself accepted', () => of('x').accepted(FEED, taskRecord('t'))],
    ['a definition of its own', () => definition('one')],
    ['a result that nobody reported', () => completed(resultsOf(1)[0]!, undefined)],
    ['a replica set of its own', (feed) => ({ ...feed, followers: [{ peer_id: 'x', synced: true }], version: 9 })],
  ];
  test.for(forgeries)('that brings %s is not kept, and that follower is asked no more', async ([, forge]) => {
    const { catchUp, head, theirs } = await pulled((feed, x) => copyAt(x, feed, forge(feed.feed)));
    await expect(catchUp()).rejects.toMatchObject({ code: 'FORGED' });
    expect(head()).toBe(2);
    const asked = theirs.pulls.length;
    await expect(catchUp()).rejects.toMatchObject({ code: 'FORGED' });
    expect(theirs.pulls.length).toBe(asked);
  });
});

test('a peer outside of the replica set brings no rows, whatever it has', async () => {
  const { scene, feed } = await following();
  const stranger = await HandPeer.joins(scene, 's', ['f']);
  copyAt(stranger, feed, owner.accepted(FEED, taskRecord('t')));
  const { followed } = scene.scheduler('f').parts;
  const caughtUp = scene.run(followed.inOrder(FEED, () => followed.catchUp('s', FEED)));
  await expect(caughtUp).rejects.toMatchObject({ code: 'NO_COPY' });
  expect(scene.peer('f').store.feeds.get(FEED)!.seq).toBe(2);
});

test('a feed is not followed to a peer that was never named as its heir', async () => {
  const { scene, feed } = await following();
  const stranger = await HandPeer.joins(scene, 's', ['f']);
  const theirs = copyAt(stranger, feed, of('s').feed(openLine(feed.feed, 's', feed.head, 'lie')));
  await scene.run(theirs.push('f', []).catch(() => {}));
  await scene.pass(5_000);
  const { followed } = scene.scheduler('f').parts;
  expect(currentLine(followed.find(FEED)!.feed!).owner).toBe('o');
});

describe('what comes to an owner', () => {
  async function owning() {
    const scene = await Scene.of(['a'], { signs: true });
    const worker = await HandPeer.joins(scene, 'w', ['a'], { labels: ['w'] });
    await scene.until('w follows', () => scene.feed('a').feed.followers.some(({ synced }) => synced));
    return { scene, worker };
  }

  test('as results counts only with the signature of the worker that brings them', async () => {
    const { scene, worker: w } = await owning();
    const { uid } = await scene.submit('a', hand());
    const lease = await w.leased(1);
    const results = [resultOf(lease, { output: 'done' })];
    const forged = { results, signature: other.frame(results).signature };
    await expect(w.ask('a', 'result', forged)).rejects.toMatchObject({ code: 'FORGED' });
    expect((await scene.task('a', uid)).status).toBe('running');
    await w.ask('a', 'result', { results, ...worker.frame(results) });
    const ended = await scene.ended('a', uid);
    expect(ended).toMatchObject({
      output: 'done',
      signed_result: { by: 'w', epoch: lease.epoch, attempt: lease.attempt },
    });
    expect(other.isForged(signatoriesOf(scene.feed('a').feed), ended)).toBe(false);
  });

  test('as the result of a lease that its bringer says it gave itself counts only from one of the replica set', async () => {
    const { scene, worker: w } = await owning();
    await scene.restart('a'); // from now on it does not know all that may have owned its feed in another history
    await scene.run(w.network.connect('a'));
    await scene.until('a owns its feed', () => scene.scheduler('a').parts.feeds.all().length === 1);
    const { uid } = await scene.submit('a', hand());
    const lease = await w.leased(1);
    const liar = await HandPeer.joins(scene, 'x', ['a']);
    const origin = { granted_by: 'x', payload_hash: contentHash(lease.payload) };
    const results = [{ ...resultOf(lease, { output: 'lie' }), ...origin }];
    await liar.ask('a', 'result', { results, ...other.frame(results) });
    expect((await scene.task('a', uid)).status).toBe('running');
    const own = [resultOf(lease, { output: 'done' })];
    await w.ask('a', 'result', { results: own, ...worker.frame(own) });
    expect(await scene.ended('a', uid)).toMatchObject({ output: 'done', peer_id: 'w' });
  });

  test('without a signature, from a worker of an older version, is vouched for by the owner', async () => {
    const { scene, worker: w } = await owning();
    const { uid } = await scene.submit('a', hand());
    await w.result('a', await w.leased(1), { output: 'done' });
    const ended = await scene.ended('a', uid);
    expect(ended.signed_result?.by).toBe('a');
    expect(other.isForged(signatoriesOf(scene.feed('a').feed), ended)).toBe(false);
  });

  test('as a hand-over is refused when it was forged, and nothing of it is kept', async () => {
    const { scene, worker: w } = await owning();
    const { feed_id, feed } = scene.feed('a');
    const uid = 'made-by-w';
    const part = { feed_id, line: { ...currentLine(feed), nonce: 'lost' }, root_uid: uid, part: 0, last: true };
    const line = { ...part.line, epoch: 0, owner: 'w' };
    const forged = taskRecord(uid, { status: 'completed', output: 'lie', peer_id: 'honest' });
    const message = (record: TaskRecord) => ({ ...part, line, records: [record] });
    await expect(w.ask('a', 'handover', message(forged))).rejects.toMatchObject({ code: 'FORGED' });
    const asAccepted = of('w').accepted(feed_id, forged);
    await expect(w.ask('a', 'handover', message(asAccepted))).rejects.toMatchObject({ code: 'FORGED' });
    expect(await scene.peer('a').store.reader.row(uid)).toBeUndefined();
  });
});

describe('a caller in a call that is handed on', () => {
  const call = {
    tool: 'task_cancel',
    input: { task_id: 't' },
    caller: { id: 'key:ann', others: 'none' },
    hops: 1,
  } as const;
  const vouched = owner.vouched(call);

  test('is who the peer says that asked, to everybody', () => {
    expect(vouched).toMatchObject({ id: 'key:ann', others: 'none', by: 'o' });
    expect(other.isVouched('x', call, vouched)).toBe(true);
    expect(other.isVouched('o', call, { ...vouched, signature: undefined })).toBe(true); // `o` itself brings it
  });

  test.each([
    ['another caller', { ...call, caller: { ...call.caller, id: 'key:ben' } }, vouched],
    ['more rights', { ...call, caller: { ...call.caller, others: 'write' as const } }, vouched],
    ['another tool', { ...call, tool: 'workflow_cancel' }, vouched],
    ['another input', { ...call, input: { task_id: 'u' } }, vouched],
    ['another peer that is to have asked', call, { ...vouched, by: 'w' }],
    ['no signature', call, { ...vouched, signature: undefined }],
  ])('is not believed with %s', (_what, brought, said) => {
    expect(other.isVouched('x', brought, said)).toBe(false);
  });

  test('is taken by a peer from who asked, and from no other that cannot show it', async () => {
    const scene = await Scene.of(['a'], { signs: true });
    const [asked, between] = [await HandPeer.joins(scene, 'o', ['a']), await HandPeer.joins(scene, 'x', ['a'])];
    const callers: unknown[] = [];
    scene.scheduler('a').serveCalls(async ({ caller }) => {
      callers.push(caller);
      return {};
    });
    const { tool, input } = call;
    const ask = (peer: HandPeer, caller: object) =>
      peer.ask('a', 'call', { tool, input, hops: 1, caller: { ...caller } });
    expect(await ask(asked, { ...call.caller, by: 'o' })).toEqual({ output: {} });
    expect(await ask(between, vouched)).toEqual({ output: {} });
    expect(callers).toEqual([call.caller, call.caller]);
    for (const forged of [
      { ...vouched, id: 'key:admin' },
      { ...vouched, others: 'write' },
      { ...call.caller, by: 'o' },
    ]) {
      expect(await ask(between, forged)).toMatchObject({ error: { code: 'INVALID_CALLER' } });
    }
    expect(callers).toHaveLength(2);
  });
});
