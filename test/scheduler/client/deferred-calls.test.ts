/** Calls that wait for an owner: who may keep them, how many, and what becomes of them. */

import { describe, expect, test } from 'vitest';
import { FlowmeshError, type JsonObject } from '../../../dag/errors.ts';
import { EVERYBODY } from '../../../scheduler/caller.ts';
import { DeferredCalls } from '../../../scheduler/client/deferred-calls.ts';
import { ServedCalls } from '../../../scheduler/client/served-calls.ts';
import { Lifecycle } from '../../../scheduler/lifecycle.ts';
import { INTENTS_MAX } from '../../../scheduler/limits.ts';
import { LOCAL_FEED } from '../../../scheduler/records.ts';
import type { CopiedRecord } from '../../../scheduler/storage/aliases.ts';
import { LocalFeed } from '../../../scheduler/storage/local-feed.ts';
import { MemoryStore } from '../../simulation/memory-store.ts';
import { quiet, SimulatedClock, World } from '../../simulation/world.ts';

const TASK = { kind: 'task', id: 't' } as const;

/** The deferred calls of a peer that has a copy of one task, in a feed that has an owner when the test says so. */
function open(over: Partial<CopiedRecord> = {}) {
  const world = new World(1);
  const clock = new SimulatedClock(world, 1);
  const store = new MemoryStore();
  const lifecycle = new Lifecycle();
  lifecycle.ready = true;
  const local = new LocalFeed({ store, clock, log: quiet, probe: () => {}, lifecycle, onFailure: () => {} });
  const ran: { tool: string; input: JsonObject }[] = [];
  const mesh = { hasOwner: false, answer: async (): Promise<JsonObject> => ({}) };
  const record = { uid: 'u', status: 'running', content_hash: '', feed_id: 'f', owner: 'away', ...over };
  const served = new ServedCalls();
  served.serve(({ tool, input }) => {
    ran.push({ tool, input });
    return mesh.answer();
  });
  const deferred = new DeferredCalls({
    ...{ clock, reader: store.reader, local, served, log: quiet },
    records: { heirOf: async ({ id }) => (id === 'unknown' ? undefined : { ...record, uid: `u-${id}` }) },
    owners: { isOwned: () => mesh.hasOwner },
  });
  const settle = () => world.run(world.now + 100);
  /** Resolves with the promise's outcome after time has passed. */
  const run = async <T>(promise: Promise<T>): Promise<T> => {
    promise.catch(() => {});
    await settle();
    return await promise;
  };
  const keep = (id: string, input: JsonObject = {}) =>
    run(deferred.keep({ ...TASK, id }, 'task_cancel', input, EVERYBODY));
  const kept = async () => (await store.reader.active('intent', LOCAL_FEED)).map(({ target }) => target.id);
  return { deferred, mesh, ran, settle, keep, kept };
}

describe('a call is kept', () => {
  test('durably, with the status that the record has here; once, the last one counts', async () => {
    const { keep, kept, deferred, mesh, ran, settle } = open();
    expect(await keep('t', { reason: 'first' })).toEqual({ status: 'running' });
    await keep('t', { reason: 'second' });
    expect(await kept()).toEqual(['t']);
    deferred.onTick();
    expect(ran).toEqual([]);
    mesh.hasOwner = true;
    deferred.onTick();
    await settle();
    expect(ran).toEqual([{ tool: 'task_cancel', input: { reason: 'second' } }]);
    expect(await kept()).toEqual([]);
  });

  test('only of a record that has not ended and that this peer may own next', async () => {
    await expect(open({ status: 'completed' }).keep('t')).rejects.toMatchObject({ code: 'INVALID_STATE' });
    await expect(open().keep('unknown')).rejects.toMatchObject({ code: 'OWNER_UNREACHABLE' });
  });

  test('while there are not too many (P7)', async () => {
    const { keep, deferred, settle } = open();
    const all = Array.from({ length: INTENTS_MAX }, (_each, at) =>
      deferred.keep({ ...TASK, id: `${at}` }, 'x', {}, EVERYBODY),
    );
    await settle();
    await Promise.all(all);
    await expect(keep('one-more')).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED', details: { limit: 'INTENTS_MAX' } });
  });
});

describe('a kept call', () => {
  test('is tried again until the owner says what became of it', async () => {
    const { keep, kept, deferred, mesh, ran, settle } = open();
    await keep('t');
    mesh.hasOwner = true;
    const answers = ['PEER_UNREACHABLE', 'DEADLINE_EXCEEDED', 'INVALID_STATE'];
    mesh.answer = async () => {
      throw new FlowmeshError(answers.shift()!, 'no');
    };
    for (const left of [1, 1, 0, 0]) {
      deferred.onTick();
      await settle();
      expect(await kept()).toHaveLength(left);
    }
    expect(ran).toHaveLength(3);
  });

  test('is not done twice at a time', async () => {
    const { keep, deferred, mesh, ran, settle } = open();
    await keep('t');
    mesh.hasOwner = true;
    mesh.answer = () => new Promise(() => {});
    for (const _beat of [1, 2, 3]) {
      deferred.onTick();
      await settle();
    }
    expect(ran).toHaveLength(1);
  });

  test('is known again after the store was read', async () => {
    const { keep, deferred, mesh, ran, settle } = open();
    await keep('t');
    await deferred.load();
    mesh.hasOwner = true;
    deferred.onTick();
    await settle();
    expect(ran).toHaveLength(1);
  });
});
