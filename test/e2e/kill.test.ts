/** Peers that are killed without warning: what was accepted is kept, and what they ran is run elsewhere. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { eventually } from '../harness/eventually.ts';
import { inParallel } from '../harness/in-parallel.ts';
import { LEDGER_FUNCTIONS, Ledger } from '../harness/ledger.ts';
import { type PeerProcess, startProcesses } from '../harness/processes.ts';

const TASKS = 500;
const WORKFLOWS = 20;
/** Every tenth task may be started once only. */
const ONCE_EACH = 10;
const KILLED_AFTER = 200;
const SUBMITS_AT_ONCE = 20;

interface Submit {
  tool: 'task_submit' | 'workflow_submit';
  id: string;
  input: JsonObject;
}

function submitsOf(ledger: Ledger): Submit[] {
  const tasks = Array.from({ length: TASKS }, (_, n): Submit => {
    const id = `task-${n}`;
    const payload = { ledger: ledger.path, n, ms: 10 };
    return {
      tool: 'task_submit',
      id,
      input: { task_id: id, task_type: 'fn:enter', payload, at_most_once: n % ONCE_EACH === 0 },
    };
  });
  const workflows = Array.from({ length: WORKFLOWS }, (_, n): Submit => {
    const id = `workflow-${n}`;
    return { tool: 'workflow_submit', id, input: workflowOf(id, TASKS + 10 * n, ledger) };
  });
  // A workflow after every so many tasks.
  const every = TASKS / WORKFLOWS;
  return workflows.flatMap((workflow, n) => [...tasks.slice(n * every, (n + 1) * every), workflow]);
}

function workflowOf(workflow_id: string, first: number, ledger: Ledger): JsonObject {
  const inputs = { ledger: ledger.path, ms: 10 };
  return {
    workflow_id,
    name: 'three-in-a-row',
    steps: [
      { step_id: 'one', action: 'fn:enter', inputs: { ...inputs, n: first } },
      {
        step_id: 'each',
        action: 'fn:enter',
        depends_on: ['one'],
        foreach: [1, 2, 3],
        inputs: { ...inputs, n: `\${ ${first} + item }` },
      },
      {
        step_id: 'last',
        action: 'fn:enter',
        depends_on: ['each'],
        inputs: { ...inputs, n: '${ $max(steps.each.output.n) + 1 }' },
      },
    ],
    output: { last: '${ steps.last.output.n }' },
  };
}

function endedStatus(peer: PeerProcess, { tool, id }: Submit): Promise<JsonObject> {
  return tool === 'task_submit'
    ? peer.call('task_result', { task_id: id })
    : peer.call('workflow_result', { workflow_id: id });
}

it(`a peer killed in the middle of ${TASKS} tasks and ${WORKFLOWS} workflows has all it accepted after its restart, and ends it`, async ({
  annotate,
}) => {
  await using mesh = await startProcesses(3, { args: ['--functions', LEDGER_FUNCTIONS, '--slots', '4'] });
  const ledger = new Ledger(mesh.home);
  const [owner, , other] = mesh.peers as [PeerProcess, PeerProcess, PeerProcess];
  const submits = submitsOf(ledger);
  const accepted: Submit[] = [];
  let killed: Promise<void> | undefined;
  const submit = async (each: Submit) => {
    if (killed !== undefined) return;
    try {
      await owner.call(each.tool, each.input);
    } catch (error) {
      // In flight when the peer died: whether it was accepted, nobody was told.
      if (killed === undefined) throw error;
      return;
    }
    accepted.push(each);
    if (accepted.length === KILLED_AFTER) killed ??= owner.kill('SIGKILL');
  };
  await inParallel(submits, SUBMITS_AT_ONCE, submit);
  await killed;
  const startsBefore = (await ledger.starts()).length;
  expect(startsBefore).toBeGreaterThan(0);
  const restarted = performance.now();
  await owner.start();
  const ready = performance.now();
  for (const each of accepted) expect(await endedStatus(owner, each), each.id).toMatchObject({ success: true });

  killed = undefined;
  const rest = submits.filter((each) => !accepted.includes(each));
  await inParallel(rest, SUBMITS_AT_ONCE, (each) => owner.call(each.tool, each.input));
  const results = await inParallel(submits, SUBMITS_AT_ONCE, (each) =>
    eventually(`${each.id} has ended`, async () => {
      const result = await endedStatus(owner, each);
      return ['completed', 'failed', 'cancelled'].includes(String(result['status'])) && result;
    }),
  );
  const ended = performance.now();

  const counts = await ledger.counts();
  let lost = 0;
  for (const [position, result] of results.entries()) {
    const { tool, id, input } = submits[position]!;
    if (tool === 'workflow_submit') {
      const first = TASKS + 10 * Number(id.split('-')[1]);
      expect(result).toMatchObject({ status: 'completed', result: { last: first + 4 } });
      for (let n = first; n <= first + 4; n++) expect(counts.get(n), `${id} ${n}`).toBeGreaterThan(0);
      continue;
    }
    const n = Number(id.split('-')[1]);
    if (input['at_most_once'] === true) {
      expect(counts.get(n) ?? 0, id).toBeLessThanOrEqual(1);
      if (result['status'] === 'failed') {
        // Its worker is gone, or the owner died with a commit that its follower does not have (P4).
        expect(result['error']).toMatchObject({ code: expect.stringMatching(/^(WORKER|OWNER)_LOST$/) });
        lost++;
        continue;
      }
    }
    expect(result, id).toMatchObject({ status: 'completed', output: { n } });
    expect(counts.get(n), id).toBeGreaterThan(0);
  }
  const again = [...counts.values()].filter((count) => count > 1).length;
  await annotate(
    `killed after ${accepted.length} accepted and ${startsBefore} started; ready again after ${ms(ready - restarted)}, all ${submits.length} ended after ${ms(ended - restarted)}; ${again} ran again, ${lost} of ${TASKS / ONCE_EACH} that may run once were lost with their worker or owner`,
  );
  expect(await other.call('task_result', { task_id: accepted[0]!.id })).toEqual(
    await owner.call('task_result', { task_id: accepted[0]!.id }),
  );
});

it('the steps of a worker that is killed are run again elsewhere', async ({ annotate }) => {
  // The owner itself runs nothing, so that its steps are on the two others.
  await using mesh = await startProcesses(3, {
    args: (index) => ['--functions', LEDGER_FUNCTIONS, '--slots', index === 0 ? '0' : '6'],
  });
  const ledger = new Ledger(mesh.home);
  const gate = join(mesh.home, 'gate');
  const [owner, worker, other] = mesh.peers as [PeerProcess, PeerProcess, PeerProcess];
  const items = [0, 1, 2, 3, 4, 5];
  const { workflow_id } = await owner.call('workflow_submit', {
    name: 'held',
    steps: [
      { step_id: 'hold', action: 'fn:hold', foreach: items, inputs: { ledger: ledger.path, gate, n: '${ item }' } },
    ],
  });
  await eventually('all steps run', async () => (await ledger.starts()).length === items.length);
  const lost = (await ledger.starts()).filter(({ pid }) => pid === worker.pid).map(({ n }) => n);
  expect(lost.length).toBeGreaterThan(0);
  const killed = performance.now();
  await worker.kill('SIGKILL');
  await eventually('what it ran is run by the other one', async () => {
    const there = (await ledger.starts()).filter(({ pid }) => pid === other.pid).map(({ n }) => n);
    return lost.every((n) => there.includes(n));
  });
  const rerun = performance.now() - killed;
  await annotate(`${lost.length} of ${items.length} steps of the killed worker run elsewhere after ${ms(rerun)}`);

  await writeFile(gate, '');
  const result = await eventually('the workflow has ended', async () => {
    const answer = await owner.call('workflow_result', { workflow_id: workflow_id! });
    return answer['status'] === 'completed' && answer;
  });
  expect(result).toMatchObject({ result: { hold: items.map((n) => ({ n })) } });
  expect((await ledger.starts()).length).toBe(items.length + lost.length);
  const { tasks } = (await owner.call('task_list', { scope: 'local' })) as { tasks: { task_id: string }[] };
  const statuses = await Promise.all(
    tasks.map(({ task_id }) => owner.call('task_status', { task_id, include_metrics: true })),
  );
  const histories = statuses.map(({ metrics }) => (metrics as { attempt_history: JsonObject[] }).attempt_history);
  expect(histories.filter(([first]) => (first?.['error'] as JsonObject)?.['code'] === 'WORKER_LOST')).toHaveLength(
    lost.length,
  );
});

function ms(duration: number): string {
  return `${Math.round(duration)} ms`;
}
