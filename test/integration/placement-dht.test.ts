/** A worker that nobody told of is found through the DHT, dialled, and given the work. */
import { expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { type InProcessPeer, startMeshInProcess } from '../harness/in-process.ts';

const PROVIDERS_MAX = 8;
const LOOK_UP_DEADLINE_MS = 5_000;

it('a step that only an unconnected peer can run runs there, found through the DHT', async ({ annotate }) => {
  // A line A – B – C. Peers do not tell each other of others, nor gossip, so A learns of C from the DHT or not at all.
  await using mesh = await startMeshInProcess(3, {
    topology: 'line',
    config: (index) => ({ auto_connect: false, gossip: false, worker: { labels: index === 2 ? ['gpu'] : [] } }),
  });
  const [a, b, c] = mesh.peers as [InProcessPeer, InProcessPeer, InProcessPeer];
  const named = performance.now();
  await eventually('the DHT names C at A', async () => {
    const found = await a.mesh.network.findProviders('label:gpu', PROVIDERS_MAX, LOOK_UP_DEADLINE_MS);
    return found.includes(c.peer_id);
  });
  await annotate(`the DHT names C ${Math.round(performance.now() - named)} ms after the line is connected`);

  mesh.join(0, 2);
  expect(a.mesh.network.connected()).toEqual([b.peer_id]);
  expect(c.mesh.network.connected()).toEqual([b.peer_id]);
  const submitted = performance.now();
  const { workflow_id } = await a.call('workflow_submit', {
    name: 'needs-a-gpu',
    steps: [{ step_id: 'render', action: 'echo', inputs: { frame: 1 }, requires: { labels: ['gpu'] } }],
  });
  const workflow = await eventually('the workflow has ended', async () => {
    const answer = await a.call('workflow_result', { workflow_id: workflow_id! });
    return answer['status'] === 'completed' && answer;
  });
  await annotate(`submit to result through the DHT: ${Math.round(performance.now() - submitted)} ms`);
  expect(workflow).toMatchObject({ status: 'completed', result: { render: { frame: 1 } } });

  const { tasks } = (await a.call('task_list', { scope: 'local' })) as { tasks: { task_id: string }[] };
  expect(tasks).toHaveLength(1);
  expect(await a.call('task_status', { task_id: tasks[0]!.task_id })).toMatchObject({
    workflow_id,
    step_id: 'render',
    status: 'completed',
    owner_peer_id: a.peer_id,
    peer_id: c.peer_id,
    placement: { found_by: 'dht', chosen: { peer_id: c.peer_id } },
  });

  // From now on C is one of the connected: no look-up stands between it and the next task.
  const { task_id } = await a.call('task_submit', { task_type: 'echo', requires: { labels: ['gpu'] } });
  const next = await eventually('the next task has ended', async () => {
    const status = await a.call('task_status', { task_id: task_id! });
    return status['status'] === 'completed' && status;
  });
  expect(next).toMatchObject({ peer_id: c.peer_id, attempt: 1 });
});

it('what no peer of the mesh can run waits, and runs on the first one that can', async () => {
  await using mesh = await startMeshInProcess(2);
  const [a] = mesh.peers as [InProcessPeer];
  const { task_id } = await a.call('task_submit', { task_type: 'echo', requires: { labels: ['tpu'] } });
  const waiting = await eventually('it is known why it waits', async () => {
    const status = await a.call('task_status', { task_id: task_id! });
    return status['placement'] !== null && status;
  });
  expect(waiting).toMatchObject({
    status: 'queued',
    placement: { considered: 0, chosen: null, reason: 'label tpu: none of 2 peers' },
  });
  const late = await mesh.add({ worker: { labels: ['tpu'] } });
  const done = await eventually('it has run', async () => {
    const status = await a.call('task_status', { task_id: task_id! });
    return status['status'] === 'completed' && status;
  });
  expect(done).toMatchObject({ peer_id: late.peer_id, attempt: 1 });
});
