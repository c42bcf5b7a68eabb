import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openSqliteStore } from '../../node/store/store.ts';
import type { Store } from '../../scheduler/ports.ts';
import { storeCompliance } from '../compliance/store.ts';
import { MemoryStore } from '../simulation/memory-store.ts';
import { quiet } from './quiet-log.ts';
import { row, task } from './sample-rows.ts';

const FEED_ID = '0123456789abcdefghij';

storeCompliance('MemoryStore', async () => {
  let store = new MemoryStore({ feed_id: FEED_ID });
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

it('a crashed MemoryStore answers nothing more and leaves what was committed', async () => {
  const disk = Promise.withResolvers<void>();
  const store = new MemoryStore({
    feed_id: FEED_ID,
    sync: (rows) => (rows[0]?.uid === 'slow' ? disk.promise : Promise.resolve()),
  });
  await store.commit([row(store, 1, task('kept'))]);
  let answered = false;
  const answer = () => {
    answered = true;
  };
  store.commit([row(store, 2, task('slow'))]).then(answer, answer);
  store.commit([row(store, 3, task('later'))]).then(answer, answer);
  const lost = store.crash();
  const landed = store.crash(1);
  disk.resolve();
  await lost.commit([row(lost, 2, task('after'))]);
  expect(answered).toBe(false);
  expect(await lost.reader.get('task', 'kept')).toBeDefined();
  expect(await lost.reader.get('task', 'slow')).toBeUndefined();
  expect(await landed.reader.get('task', 'slow')).toBeDefined();
  expect(await landed.reader.get('task', 'later')).toBeUndefined();
  expect(landed.feed).toEqual({ feed_id: FEED_ID, epoch: 1, seq: 2 });
});

it('a MemoryStore whose disk fails rejects what is queued, and goes on after recover', async () => {
  let broken = false;
  const store = new MemoryStore({
    feed_id: FEED_ID,
    sync: async () => {
      if (broken) throw new Error('the simulated disk broke');
    },
  });
  await store.commit([row(store, 1, task('a'))]);
  broken = true;
  const failing = [store.commit([row(store, 2, task('b'))]), store.commit([row(store, 3, task('c'))])];
  for (const commit of failing) await expect(commit).rejects.toMatchObject({ code: 'STORE_FAILED' });
  broken = false;
  await expect(store.commit([row(store, 2, task('d'))])).rejects.toMatchObject({ code: 'STORE_FAILED' });
  await store.recover();
  await store.commit([row(store, 2, task('e'))]);
  expect((await store.reader.active('task')).map((record) => record.uid)).toEqual(['a', 'e']);
});
