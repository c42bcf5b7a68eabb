import { expect, it } from 'vitest';
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { silentLog } from '../../node/log.ts';
import { createEverywhere } from '../../node/runtimes/everywhere.ts';
import type { PeerView, SchedulerApi } from '../../scheduler/api.ts';
import { EVERYBODY } from '../../scheduler/caller.ts';

const NEVER = new AbortController().signal;

/** A scheduler that knows `self`, `names` as connected peers, and `gone` as one that is not. */
function schedulerOf(names: string[], call: (peer: string) => Promise<JsonObject>) {
  const view = (peer_id: string, connected: boolean) => ({ peer_id, connected }) as PeerView;
  const scheduler: Pick<SchedulerApi, 'self' | 'peers' | 'call'> = {
    self: 'self',
    peers: () => [view('self', true), view('gone', false), ...names.map((name) => view(name, true))],
    call: ({ peer_id }) => call(peer_id),
  };
  return scheduler;
}

it('asks every connected peer but this one, and answers in the order of their ids', async () => {
  const everywhere = createEverywhere(
    schedulerOf(['c', 'a', 'b'], async (peer) => ({ from: peer })),
    EVERYBODY,
    NEVER,
    silentLog,
  );
  expect(await everywhere('queue_stats', {})).toEqual({
    outputs: ['a', 'b', 'c'].map((peer_id) => ({ peer_id, output: { from: peer_id } })),
    missing: [],
  });
});

it('a peer that fails is missing and spoils nothing', async () => {
  const call = async (peer: string) => {
    if (peer === 'b') throw new FlowmeshError('PEER_UNREACHABLE', 'not there', { retryable: true });
    return { from: peer };
  };
  const everywhere = createEverywhere(schedulerOf(['a', 'b', 'c'], call), EVERYBODY, NEVER, silentLog);
  const { outputs, missing } = await everywhere('queue_stats', {});
  expect(outputs.map((each) => each.peer_id)).toEqual(['a', 'c']);
  expect(missing).toEqual(['b']);
});

it('never asks more peers at once than the bound, and asks them all', async () => {
  let asking = 0;
  let most = 0;
  const call = async (peer: string) => {
    most = Math.max(most, ++asking);
    await new Promise(setImmediate);
    asking -= 1;
    return { from: peer };
  };
  const names = Array.from({ length: 20 }, (_, index) => `peer-${index}`);
  const everywhere = createEverywhere(schedulerOf(names, call), EVERYBODY, NEVER, silentLog, { concurrency: 3 });
  expect((await everywhere('queue_stats', {})).outputs).toHaveLength(20);
  expect(most).toBe(3);
});

it('when the time is up, who has not answered is missing, also who was never asked', async () => {
  const call = (peer: string) => (peer === 'a' ? Promise.resolve({ from: peer }) : new Promise<JsonObject>(() => {}));
  const options = { concurrency: 2, deadlineMs: 20 };
  const everywhere = createEverywhere(schedulerOf(['a', 'b', 'c', 'd'], call), EVERYBODY, NEVER, silentLog, options);
  expect(await everywhere('queue_stats', {})).toEqual({
    outputs: [{ peer_id: 'a', output: { from: 'a' } }],
    missing: ['b', 'c', 'd'],
  });
});

it('a caller that goes away ends it with its reason', async () => {
  const caller = new AbortController();
  const everywhere = createEverywhere(
    schedulerOf(['a'], () => new Promise<JsonObject>(() => {})),
    EVERYBODY,
    caller.signal,
    silentLog,
  );
  const answer = everywhere('queue_stats', {});
  caller.abort(new Error('gone'));
  await expect(answer).rejects.toThrow('gone');
});
