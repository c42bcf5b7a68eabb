import { describe, expect, test } from 'vitest';
import { FlowmeshError, type JsonValue, RemoteError } from '../../../dag/errors.ts';
import { JSON_ELEMENTS_MAX, OUTPUT_BYTES_MAX } from '../../../dag/limits.ts';
import { requiresSchema } from '../../../dag/schema.ts';
import { CANCEL_GRACE_MS } from '../../../scheduler/limits.ts';
import { lease, openPool, PoolScene } from '../pool.ts';

const SOON_MS = 100;
const requires = (over: object) => requiresSchema.parse(over);

describe('a lease is accepted', () => {
  test('while there is a slot, else refused as busy', async () => {
    const { pool } = await openPool();
    const refused = pool.accept('owner', [lease('a'), lease('b'), lease('c')]);
    expect(refused).toMatchObject([{ uid: 'c', attempt: 1, reason: 'busy' }]);
    expect(pool.running).toBe(2);
  });

  test.each([
    ['a worker that is not here', lease('a', { worker_id: 'x' }), 'unable'],
    ['an action it does not have', lease('a', { action: 'fn:unknown' }), 'unable'],
    ['a label it does not have', lease('a', { requires: requires({ labels: ['arm'] }) }), 'unable'],
    ['more memory than it has', lease('a', { requires: requires({ memory_gb: 9 }) }), 'unable'],
    ['another peer', lease('a', { requires: requires({ peers: ['somebody'] }) }), 'unable'],
  ])('not for %s', async (_what, wrong, reason) => {
    const { pool } = await openPool();
    expect(pool.accept('owner', [wrong])).toMatchObject([{ reason }]);
    expect(pool.running).toBe(0);
  });

  test('not by a draining worker, and not while the process leaves', async () => {
    const { pools, pool } = await openPool();
    pools.define({ status: 'draining' });
    expect(pool.accept('owner', [lease('a')])).toMatchObject([{ reason: 'busy' }]);
    pools.define({ status: 'active' });
    await pools.run(pool.leave(SOON_MS));
    expect(pool.accept('owner', [lease('a')])).toMatchObject([{ reason: 'busy' }]);
  });

  test('within the cores and memory that are left', async () => {
    const { pools, pool } = await openPool({ max_concurrent_tasks: 9 });
    const heavy = requires({ cpu_cores: 3, memory_gb: 1 });
    expect(pool.accept('owner', [lease('a', { requires: heavy })])).toEqual([]);
    expect(pool.couldRun({ action: 'echo', requires: heavy }, 'owner')).toBe(false);
    expect(pool.couldRun({ action: 'echo', requires: requires({ cpu_cores: 1 }) }, 'owner')).toBe(true);
    expect(pool.accept('owner', [lease('b', { requires: heavy })])).toMatchObject([{ reason: 'busy' }]);
    expect(pool.accept('owner', [lease('c', { requires: requires({ cpu_cores: 1 }) })])).toEqual([]);
    pools.gate('a').open();
    await pools.pass(SOON_MS);
    expect(pool.accept('owner', [lease('b', { attempt: 2, requires: heavy })])).toEqual([]);
  });

  test('once: a repeated message neither runs it again nor refuses it', async () => {
    let starts = 0;
    const { pools, pool, owner } = await openPool({}, { 'fn:count': () => ++starts });
    owner.onResults = () => Promise.reject(new FlowmeshError('NOT_READY', 'later', { retryable: true }));
    expect(pool.accept('owner', [lease('a', { action: 'fn:count' }), lease('a', { action: 'fn:count' })])).toEqual([]);
    await pools.pass(SOON_MS);
    // It has ended and its result is kept: the same lease again is the same attempt still.
    expect(pool.accept('owner', [lease('a', { action: 'fn:count' })])).toEqual([]);
    await pools.pass(SOON_MS);
    expect(starts).toBe(1);
    expect(pool.accept('owner', [lease('a', { action: 'fn:count', attempt: 2 })])).toEqual([]);
    await pools.pass(SOON_MS);
    expect(starts).toBe(2);
  });
});

describe('the result of an attempt', () => {
  test('is brought to its owner, and not named any more once it is acknowledged', async () => {
    const { pools, pool, owner } = await openPool();
    pool.accept('owner', [lease('a', { payload: { x: 1 } })]);
    expect(pool.holding('owner')).toEqual([{ uid: 'a', feed_id: 'feed', epoch: 1, attempt: 1 }]);
    expect(pool.holding('other')).toEqual([]);
    pools.gate('a').open();
    await pools.pass(SOON_MS);
    expect(owner.results).toMatchObject([{ uid: 'a', attempt: 1, status: 'completed', output: { x: 1 }, error: null }]);
    expect(pool.holding('owner')).toEqual([]);
    expect(pool.states(null)[0]).toMatchObject({ completed: 1, failed: 0, running: 0 });
    expect(pools.slotsFreed).toBe(1);
  });

  test('is kept while its owner does not answer, and sent again (P3)', async () => {
    const { pools, pool, owner } = await openPool();
    let down = true;
    owner.onResults = async () => {
      if (down) throw new FlowmeshError('NOT_READY', 'later', { retryable: true });
    };
    pool.accept('owner', [lease('a', { action: 'fn:fail' })]);
    await pools.pass(SOON_MS);
    expect(pool.holding('owner')).toHaveLength(1);
    expect(pool.running).toBe(0);
    down = false;
    pool.sendResults();
    await pools.pass(SOON_MS);
    expect(owner.results).toMatchObject([{ uid: 'a', status: 'failed', error: { code: 'BROKEN', retryable: true } }]);
    expect(pool.holding('owner')).toEqual([]);
  });

  test('is not sent twice at a time', async () => {
    const { pools, pool, owner } = await openPool();
    const acknowledged = pools.gate('acknowledged');
    owner.onResults = () => acknowledged.opened;
    pool.accept('owner', [lease('a', { action: 'echo' })]);
    await pools.pass(SOON_MS);
    pool.sendResults();
    await pools.pass(SOON_MS);
    acknowledged.open();
    await pools.pass(SOON_MS);
    expect(owner.results).toHaveLength(1);
  });

  test('that its owner refuses for its content does not hold up the others', async () => {
    const { pools, pool, owner } = await openPool({ max_concurrent_tasks: 9 }, { 'fn:bad': () => 'bad' });
    owner.onResults = async (results) => {
      if (results.some(({ output }) => output === 'bad')) {
        throw new RemoteError({ code: 'INVALID_MESSAGE', message: 'at results.1.output', retryable: false });
      }
    };
    pool.accept('owner', [
      lease('a', { action: 'echo' }),
      lease('b', { action: 'fn:bad' }),
      lease('c', { action: 'echo' }),
    ]);
    await pools.pass(SOON_MS);
    expect(owner.results.map(({ uid, status }) => [uid, status]).sort()).toEqual([
      ['a', 'completed'],
      ['b', 'failed'],
      ['c', 'completed'],
    ]);
    expect(owner.results.find(({ uid }) => uid === 'b')!.error).toMatchObject({ code: 'RESULT_REFUSED' });
    expect(pool.holding('owner')).toEqual([]);
  });

  test('travels with its log in frames that stay within their bytes', async () => {
    const lines = 1_000;
    const { pools, pool, owner } = await openPool(
      { max_concurrent_tasks: 9 },
      {
        'fn:loud': (_request: unknown, io: { log(stream: 'stdout', line: string): void }) => {
          for (let line = 0; line < lines; line++) io.log('stdout', 'x'.repeat(4_000));
          return 'y'.repeat(3_000_000);
        },
      },
    );
    pool.accept('owner', [lease('a', { action: 'fn:loud' }), lease('b', { action: 'fn:loud' })]);
    await pools.pass(SOON_MS);
    const frames = owner.heard.filter(({ method }) => method === 'result').map(({ params }) => JSON.stringify(params));
    expect(frames).toHaveLength(2);
    for (const frame of frames) expect(frame.length).toBeLessThan(6.5 * 1024 * 1024);
    for (const { lines: kept, dropped_lines, status } of owner.results) {
      expect(status).toBe('completed');
      expect(kept.length + dropped_lines).toBe(lines);
      expect(kept.length).toBeGreaterThan(0);
    }
  });

  test('that is larger than allowed is a failure that says so', async () => {
    const { pools, pool, owner } = await openPool({}, { 'fn:large': () => 'x'.repeat(OUTPUT_BYTES_MAX) });
    pool.accept('owner', [lease('a', { action: 'fn:large' })]);
    await pools.pass(SOON_MS);
    expect(owner.results).toMatchObject([{ status: 'failed', output: null, error: { code: 'OUTPUT_TOO_LARGE' } }]);
  });

  test.each<[string, unknown, () => unknown]>([
    ['an output that nests too deep', 'LIMIT_EXCEEDED', () => nested(100_000)],
    ['an output of too many values', 'LIMIT_EXCEEDED', () => Array(JSON_ELEMENTS_MAX).fill(0)],
    ['an output that is no JSON', 'INVALID_OUTPUT', () => ({ big: 1n })],
    ['an output with a number that JSON does not have', 'INVALID_OUTPUT', () => [Number.POSITIVE_INFINITY]],
    ['an output with a name that data cannot have', 'INVALID_OUTPUT', () => JSON.parse('{"__proto__":1}')],
    ['an output that cannot be read', 'INVALID_OUTPUT', () => ({ toJSON: () => raise(new Error('unwilling')) })],
    ['an error whose details nest too deep', 'BROKEN', () => raise(deepError())],
    ['something thrown that cannot be described', expect.any(String), () => raise(Object.create(null))],
    ['something thrown before the action has begun', 'BROKEN', () => raise(new FlowmeshError('BROKEN', 'no'))],
  ])('of %s fails this attempt and no other', async (_what, code, give) => {
    const run = (request: { uid: string }) => (request.uid === 'a' ? give() : 'fine') as Promise<JsonValue>;
    const pools = new PoolScene({}, run);
    pools.define();
    const owner = await pools.owner('owner');
    pools.pool.accept('owner', [lease('a'), lease('b')]);
    await pools.pass(SOON_MS);
    expect(owner.results.toSorted((one, other) => (one.uid < other.uid ? -1 : 1))).toMatchObject([
      { uid: 'a', status: 'failed', output: null, error: { code, retryable: false } },
      { uid: 'b', status: 'completed', output: 'fine' },
    ]);
    expect(pools.pool.running).toBe(0);
  });

  test('of an owner that is gone does not keep the worker from work for others, once there is no more room', async () => {
    const { pools, pool, owner } = await openPool({ max_concurrent_tasks: 1_024 });
    const gone = await pools.owner('gone');
    await pools.owner('away');
    for (const each of ['gone', 'away']) pools.board.cut('worker-peer', each);
    for (let batch = 0; batch < 10; batch++) {
      const leases = Array.from({ length: 1_000 }, (_, index) => lease(`${batch}/${index}`, { action: 'echo' }));
      expect(pool.accept(batch < 5 ? 'gone' : 'away', leases)).toEqual([]);
      await pools.pass(1);
    }
    expect(pool.holding('gone')).toHaveLength(5_000);
    expect(pool.accept('owner', [lease('a', { action: 'echo' })])).toEqual([]);
    await pools.pass(SOON_MS);
    expect(owner.results).toMatchObject([{ uid: 'a' }]);
    expect(pool.holding('gone').length).toBeLessThan(5_000);
    pools.board.heal('worker-peer', 'gone');
    await pools.connect(gone);
    pool.sendResults();
    await pools.pass(SOON_MS);
    expect(gone.results.length).toBeGreaterThan(4_900);
  });

  test('of owners that are there is never forgotten: the worker takes no more', async () => {
    const { pools, pool, owner } = await openPool({ max_concurrent_tasks: 1_024 });
    const other = await pools.owner('other');
    for (const each of [owner, other])
      each.onResults = () => Promise.reject(new FlowmeshError('NOT_READY', 'later', { retryable: true }));
    for (let batch = 0; batch < 10; batch++) {
      const leases = Array.from({ length: 1_000 }, (_, index) => lease(`${batch}/${index}`, { action: 'echo' }));
      expect(pool.accept(batch < 5 ? 'owner' : 'other', leases)).toEqual([]);
      await pools.pass(1);
    }
    expect(pool.accept('third', [lease('a')])).toMatchObject([{ reason: 'busy' }]);
    for (const each of ['owner', 'other']) expect(pool.holding(each)).toHaveLength(5_000);
  });
});

describe('drain', () => {
  test('waits for what runs', async () => {
    const { pools, pool } = await openPool();
    pool.accept('owner', [lease('a'), lease('b')]);
    const drained = pool.drain('w', 10_000);
    pools.gate('a').open();
    pools.gate('b').open();
    expect(await pools.run(drained)).toEqual({ completed: 2, abandoned: 0 });
  });

  test('hands back what still runs after its time', async () => {
    const { pools, pool, owner } = await openPool();
    pool.accept('owner', [lease('a'), lease('b')]);
    const drained = pool.drain('w', 1_000);
    pools.gate('a').open();
    expect(await pools.run(drained)).toEqual({ completed: 1, abandoned: 1 });
    await pools.pass(CANCEL_GRACE_MS + SOON_MS);
    expect(owner.heard.filter(({ method }) => method === 'refuse')).toMatchObject([
      { params: { items: [{ uid: 'b', reason: 'handed_back' }] } },
    ]);
    expect(pool.holding('owner')).toEqual([]);
  });

  test('without time hands back everything at once', async () => {
    const { pools, pool } = await openPool();
    pool.accept('owner', [lease('a')]);
    expect(await pools.run(pool.drain('w', 0))).toEqual({ completed: 0, abandoned: 1 });
    await pools.pass(SOON_MS);
    expect(pool.running).toBe(0);
  });

  test('asked for twice, both are told when the worker runs nothing', async () => {
    const { pools, pool } = await openPool();
    pool.accept('owner', [lease('a')]);
    const both = [pool.drain('w', 50_000), pool.drain('w', 50_000)];
    pools.gate('a').open();
    const asked = pools.world.now;
    expect(await pools.run(Promise.all(both))).toEqual([
      { completed: 1, abandoned: 0 },
      { completed: 1, abandoned: 0 },
    ]);
    expect(pools.world.now - asked).toBeLessThan(SOON_MS);
  });

  test('a later one without time ends the wait of the first', async () => {
    const { pools, pool } = await openPool();
    pool.accept('owner', [lease('a')]);
    const first = pool.drain('w', 50_000);
    const asked = pools.world.now;
    await pools.run(pool.drain('w', 0));
    await pools.run(first);
    expect(pools.world.now - asked).toBeLessThan(SOON_MS);
  });
});

describe('handing back', () => {
  test('to one owner leaves what others lease', async () => {
    const { pools, pool, owner } = await openPool();
    await pools.owner('other');
    pool.accept('owner', [lease('a')]);
    pool.accept('other', [lease('b')]);
    expect(await pools.run(pool.handBack('owner'))).toBe(1);
    expect(owner.heard.filter(({ method }) => method === 'refuse')).toHaveLength(1);
    expect(pool.holding('other')).toHaveLength(1);
  });

  test('asked for twice, both wait until the owner was told', async () => {
    const { pools, pool } = await openPool();
    pool.accept('owner', [lease('a')]);
    expect(await pools.run(Promise.all([pool.handBack('owner'), pool.handBack('owner'), pool.leave(30_000)]))).toEqual([
      1,
      1,
      undefined,
    ]);
    expect(pools.world.now).toBeLessThan(CANCEL_GRACE_MS + 1_000);
  });
});

describe('draining before the process stops', () => {
  test('takes nothing more, says so, and waits for what runs', async () => {
    const { pools, pool, owner } = await openPool();
    pool.accept('owner', [lease('a')]);
    const drained = pool.finish(5_000);
    expect(pool.states(null)).toMatchObject([{ status: 'draining', running: 1 }]);
    expect(pool.accept('owner', [lease('b')])).toMatchObject([{ uid: 'b', reason: 'busy' }]);
    pools.gate('a').open();
    expect(await pools.run(drained)).toEqual({ ended: 1, left: 0 });
    await pools.pass(SOON_MS);
    expect(owner.results).toMatchObject([{ uid: 'a', status: 'completed' }]);
  });

  test('waits no longer than it may; what is left is handed back when it leaves', async () => {
    const { pools, pool, owner } = await openPool();
    pool.accept('owner', [lease('a'), lease('b')]);
    pools.gate('a').open();
    expect(await pools.run(pool.finish(500))).toEqual({ ended: 1, left: 1 });
    await pools.run(pool.leave(CANCEL_GRACE_MS + SOON_MS));
    const refused = owner.heard.filter(({ method }) => method === 'refuse').map(({ params }) => params);
    expect(refused).toMatchObject([{ items: [{ uid: 'b', reason: 'handed_back' }] }]);
  });

  test('is over at once where nothing runs', async () => {
    const { pools, pool } = await openPool();
    expect(await pools.run(pool.finish(60_000))).toEqual({ ended: 0, left: 0 });
  });
});

describe('leaving', () => {
  test('brings what has ended and hands back what runs', async () => {
    const { pools, pool, owner } = await openPool();
    let down = true;
    owner.onResults = async () => {
      if (down) throw new FlowmeshError('NOT_READY', 'later', { retryable: true });
    };
    pool.accept('owner', [lease('a', { action: 'echo' }), lease('b')]);
    await pools.pass(SOON_MS);
    down = false;
    await pools.run(pool.leave(10_000));
    expect(owner.results.map(({ uid }) => uid)).toEqual(['a']);
    expect(owner.heard.filter(({ method }) => method === 'refuse')).toHaveLength(1);
    expect(pool.states(null)[0]!.status).toBe('draining');
  });

  test('does not wait longer than it is given, whatever an action or an owner does', async () => {
    const { pools, pool } = await openPool({}, { 'fn:deaf': () => new Promise(() => {}) });
    pool.accept('owner', [lease('a', { action: 'fn:deaf' })]);
    await pools.run(pool.leave(200));
    expect(pools.world.now).toBeLessThan(1_000);
  });
});

function nested(levels: number): JsonValue {
  let value: JsonValue = [];
  for (let level = 1; level < levels; level++) value = [value];
  return value;
}

function deepError(): FlowmeshError {
  return new FlowmeshError('BROKEN', 'it fails', { details: { deep: nested(100_000) } });
}

function raise(thrown: unknown): never {
  throw thrown;
}
