import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { openSqliteStore } from '../../node/store/store.ts';
import type { Store } from '../../scheduler/ports.ts';
import { storeCompliance } from '../compliance/store.ts';
import { MemoryStore, type StoreOperation } from '../simulation/memory-store.ts';
import { quiet } from './quiet-log.ts';
import { FEED, row, task, tombstone } from './sample-rows.ts';

const COMMITS = 300;
/** Enough that a commit lands while they are read. */
const PARTS = Array.from({ length: 200 }, (_, n) => `part-${n}`);

storeCompliance('MemoryStore', async () => {
  let store = new MemoryStore();
  return {
    store,
    restart: async () => {
      await store.close();
      store = store.crash();
      return store;
    },
    cleanup: () => store.close(),
  };
});

for (const inline of [false, true]) {
  storeCompliance(`SQLite store, ${inline ? 'inline' : 'on its thread'}`, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'flowmesh-store-'));
    const options = { path: join(folder, 'made', 'here', 'feed.sqlite'), inline, log: quiet };
    let store: Store = await openSqliteStore(options);
    return {
      store,
      restart: async () => {
        await store.close();
        store = await openSqliteStore(options);
        return store;
      },
      cleanup: async () => {
        await store.close();
        await rm(folder, { recursive: true });
      },
    };
  });
}

it('reads of one moment see whole commits, while commits go on', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'flowmesh-store-'));
  const store = await openSqliteStore({ path: join(folder, 'feed.sqlite'), inline: false, log: quiet });
  try {
    await store.own(FEED, true);
    let seq = 0;
    const write = async () => {
      while (seq < COMMITS) {
        seq += 1;
        await store.commit(PARTS.map((uid) => row(seq, task(uid, { progress: seq }))));
      }
    };
    await store.commit(PARTS.map((uid) => row(0, task(uid))));
    const written = write();
    while (seq < COMMITS) {
      const read = await store.reader.atOnce((still) => Promise.all(PARTS.map((uid) => still.get('task', uid))));
      expect(new Set(read.map((one) => one?.progress)).size).toBe(1);
      // What was committed before they began is in them, and what is read besides is not held back.
      const before = seq - 1;
      const [inside] = await store.reader.atOnce((still) => Promise.all([still.get('task', PARTS[0]!)]));
      expect(inside?.progress).toBeGreaterThanOrEqual(before);
      await turn();
    }
    await written;
  } finally {
    await store.close();
    await rm(folder, { recursive: true });
  }
});

it('a crashed MemoryStore answers nothing more and leaves what was committed', async () => {
  const disk = Promise.withResolvers<void>();
  const store = new MemoryStore({
    sync: (operation) =>
      operation.type === 'commit' && operation.rows[0]?.uid === 'slow' ? disk.promise : Promise.resolve(),
  });
  await store.commit([row(1, task('kept'))]);
  let answered = false;
  const answer = () => {
    answered = true;
  };
  store.commit([row(2, task('slow'))]).then(answer, answer);
  store.commit([row(3, task('later'))]).then(answer, answer);
  const lost = store.crash();
  const landed = store.crash(1);
  disk.resolve();
  await lost.commit([row(2, task('after'))]);
  expect(answered).toBe(false);
  expect(await lost.reader.get('task', 'kept')).toBeDefined();
  expect(await lost.reader.get('task', 'slow')).toBeUndefined();
  expect(await landed.reader.get('task', 'slow')).toBeDefined();
  expect(await landed.reader.get('task', 'later')).toBeUndefined();
  expect(landed.feeds.get(FEED)).toEqual({ epoch: 1, seq: 2, owned: false });
});

it('a crash of a MemoryStore lands any number of operations of every type, in order', async () => {
  const never = Promise.withResolvers<void>();
  let held = false;
  const seen: StoreOperation[] = [];
  const store = new MemoryStore({
    sync: (operation) => {
      seen.push(operation);
      return held ? never.promise : Promise.resolve();
    },
  });
  await store.commit([row(1, task('t')), row(1, tombstone('x'))]);
  held = true;
  void store.own(FEED, true);
  void store.sweep(FEED, 1);
  void store.commit([row(2, task('u'))]);
  void store.drop(FEED);
  const found = (landed: number) => {
    const { feeds, reader } = store.crash(landed);
    return Promise.all([feeds.get(FEED), reader.row('x').then(Boolean), reader.row('u').then(Boolean)]);
  };
  expect(await found(0)).toEqual([{ epoch: 1, seq: 1, owned: false }, true, false]);
  expect(await found(1)).toEqual([{ epoch: 1, seq: 1, owned: true }, true, false]);
  expect(await found(2)).toEqual([{ epoch: 1, seq: 1, owned: true }, false, false]);
  expect(await found(3)).toEqual([{ epoch: 1, seq: 2, owned: true }, false, true]);
  expect(await found(4)).toEqual([undefined, false, false]);
  expect(seen.map(({ type }) => type)).toEqual(['commit', 'own']);
});

it('a MemoryStore whose disk fails rejects what is queued, and goes on after recover', async () => {
  let broken = false;
  const store = new MemoryStore({
    sync: async () => {
      if (broken) throw new Error('the simulated disk broke');
    },
  });
  await store.commit([row(1, task('a'))]);
  broken = true;
  const failing = [store.commit([row(2, task('b'))]), store.own(FEED, true), store.drop(FEED), store.sweep(FEED, 9)];
  for (const operation of failing) await expect(operation).rejects.toMatchObject({ code: 'STORE_FAILED' });
  broken = false;
  await expect(store.commit([row(2, task('d'))])).rejects.toMatchObject({ code: 'STORE_FAILED' });
  await store.recover();
  expect([...store.feeds]).toEqual([[FEED, { epoch: 1, seq: 1, owned: false }]]);
  await store.commit([row(2, task('e'))]);
  expect((await store.reader.active('task', FEED)).map((record) => record.uid)).toEqual(['a', 'e']);
});
