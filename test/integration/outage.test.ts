/** Clients keep their handles when the peer that owns their work is killed: real processes, over MCP. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { eventually } from '../harness/eventually.ts';
import { type PeerProcess, type ProcessMesh, startProcesses } from '../harness/processes.ts';

/** The reads come before the owner is taken to be gone, also where each takes a second. */
const PATIENCE = ['--takeover-ms', '10000', '--beat-interval-ms', '300'];

let mesh: ProcessMesh;
beforeAll(async () => {
  mesh = await startProcesses(3, { args: PATIENCE });
});
afterAll(() => mesh.close());

it('reads are answered at once from a copy, and a cancel by the next owner', async () => {
  const [owner, ...others] = mesh.peers as [PeerProcess, PeerProcess, PeerProcess];
  const steps = [{ step_id: 'first', action: 'echo', inputs: { n: 1 } }];
  const open = [...steps, { step_id: 'asks', action: 'approve', depends_on: ['first'] }];
  const made = await owner.call('workflow_submit', { name: 'an id is made', steps: open });
  await owner.call('workflow_submit', { workflow_id: 'chosen', name: 'an id is chosen', steps: open });
  const ids = [String(made['workflow_id']), 'chosen'];
  for (const workflow_id of ids) {
    const asks = async () => (await owner.call('workflow_status', { workflow_id }))['status'] === 'input_required';
    await eventually(`${workflow_id} waits for a person`, asks);
  }
  const ownerId = owner.peer_id;
  for (const peer of others) await peer.call('workflow_status', { workflow_id: 'chosen' }); // opens its session
  await owner.kill('SIGKILL');

  const answers: JsonObject[] = [];
  for (const peer of others) {
    for (const workflow_id of ids) answers.push(await peer.call('workflow_status', { workflow_id }));
  }
  for (const read of answers) expect(read).toMatchObject({ peer_id: ownerId, stale_ms: expect.any(Number) });
  for (const read of answers) expect(read).not.toHaveProperty('durability');

  const [one, another] = others;
  for (const workflow_id of ids) {
    expect(await one!.call('workflow_cancel', { workflow_id })).toMatchObject({ cancelled_steps: ['asks'] });
    const read = await another!.call('workflow_status', { workflow_id });
    expect(read).toMatchObject({ status: 'cancelled', durability: { copies: 2, wanted: 2 } });
    expect(read).not.toHaveProperty('stale_ms');
    expect(others.map(({ peer_id }) => peer_id)).toContain(read['peer_id']);
  }

  await owner.start();
  await mesh.allConnected();
  for (const workflow_id of ids) {
    expect(await owner.call('workflow_status', { workflow_id })).toMatchObject({ status: 'cancelled' });
  }
});
