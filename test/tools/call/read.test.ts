/** P1 for reads: what is not on as many disks as it has to be is not shown, and what is old says so. */
import { describe, expect, it } from 'vitest';
import { parseInput } from '../../../tools/call/envelope.ts';
import { callTool, readLocally } from '../../../tools/call/route.ts';
import { tools } from '../../../tools/registry.ts';
import { step, task, workflow } from '../../store/sample-rows.ts';
import { MeshOfDoubles, type PeerDouble } from '../mesh-of-doubles.ts';

const tool = (name: string) => tools.get(name)!;
const readOnServe = (name: string, input: object, { context }: PeerDouble) =>
  readLocally(tool(name), parseInput(tool(name), input), context);

/** A peer that has released its first commit only. */
function peerWith(...commits: Parameters<PeerDouble['put']>[]): PeerDouble {
  const peer = new MeshOfDoubles().peer('a');
  for (const records of commits) peer.put(...records);
  peer.scheduler.isReleased = (_feedId, seq) => seq <= 1;
  return peer;
}

describe('a row that was not released yet', () => {
  it.each([
    ['task_status', { task_id: 'new-id' }],
    ['task_result', { task_id: 'new-id' }],
    ['task_list', {}],
  ])('is not shown by %s on the serve loop', async (name, input) => {
    const peer = peerWith([task('old')], [task('new')]);
    expect(await readOnServe(name, input, peer)).toBeUndefined();
  });

  it('does not hold up reads of others', async () => {
    const peer = peerWith([task('old')], [task('new')]);
    expect(await readOnServe('task_status', { task_id: 'old-id' }, peer)).toMatchObject({ success: true });
  });

  it('is not shown as a part of a workflow either', async () => {
    const old = workflow('w');
    const definition = { kind: 'definition', uid: 'w:definition', workflow: { steps: [] } } as never;
    const peer = peerWith([old, definition], [step('w', 's')]);
    expect(await readOnServe('workflow_status', { workflow_id: 'w-id', include_steps: false }, peer)).toBeDefined();
    expect(await readOnServe('workflow_status', { workflow_id: 'w-id' }, peer)).toBeUndefined();
  });

  it.each([
    ['task_status', { task_id: 'new-id' }],
    ['task_list', { scope: 'local' }],
    ['task_list', {}],
  ])('is waited for by %s %j on the mesh loop', async (name, input) => {
    const peer = peerWith([task('old')], [task('new')]);
    const released = Promise.withResolvers<void>();
    const waited: number[] = [];
    peer.scheduler.whenReleased = async (_feedId, seq) => {
      waited.push(seq);
      await released.promise;
    };
    let answered = false;
    const answer = callTool(tool(name), input, peer.context, 0).finally(() => {
      answered = true;
    });
    while (waited.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(waited).toEqual([2]);
    expect(answered).toBe(false);
    released.resolve();
    expect(await answer).toMatchObject({ success: true });
  });
});

describe('workflow_status', () => {
  it('shows how it ended on the other side of a partition', async () => {
    const peer = new MeshOfDoubles().peer('a');
    const line = { epoch: 2, base_seq: 7, owner: 'b', nonce: '' };
    const superseded_at = '2026-01-01T00:00:00.000Z';
    const lost = workflow('w', { status: 'failed', error: { code: 'X', message: 'x', retryable: false } });
    peer.put(workflow('w', { status: 'completed', result: 1 }), {
      ...{ kind: 'superseded', uid: 'superseded/2/b/w', root_uid: 'w', line, superseded_at, record: lost },
    });
    expect(await callTool(tool('workflow_status'), { workflow_id: 'w-id' }, peer.context, 0)).toMatchObject({
      status: 'completed',
      superseded: [{ status: 'failed', error: { code: 'X' }, line, superseded_at }],
    });
  });

  it('says nothing of it when there was no other side', async () => {
    const peer = new MeshOfDoubles().peer('a');
    peer.put(workflow('w'));
    const output = await callTool(tool('workflow_status'), { workflow_id: 'w-id' }, peer.context, 0);
    expect(output).not.toHaveProperty('superseded');
    expect(output).toMatchObject({ durability: { copies: expect.any(Number), wanted: expect.any(Number) } });
  });
});
