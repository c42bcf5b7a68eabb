/**
 * Every file of examples/ is run as its first lines say: submitted with the command line to one peer of a real mesh of
 * three, and looked at from another one.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { runCli } from '../cli/run-cli.ts';
import { eventually } from '../harness/eventually.ts';
import { type InProcessMesh, startMeshInProcess } from '../harness/in-process.ts';

const ROOT = join(import.meta.dirname, '../..');
const EXAMPLES = join(ROOT, 'examples');

let mesh: InProcessMesh;
beforeAll(async () => {
  mesh = await startMeshInProcess(3, {
    config: { http: {}, shell: { allow: ['wc'] }, functions: [join(EXAMPLES, 'functions.ts')] },
  });
});
afterAll(() => mesh.close());

/** Runs a command against the first peer, from the folder that the examples name. */
function flowmesh(...args: string[]) {
  return runCli([...args, '--url', mesh.peers[0]!.http_url!], {}, { cwd: ROOT });
}

/** Submits an example and watches it to its end. */
async function submit(file: string, workflow_id: string): Promise<{ status: string; result: JsonObject }> {
  const args = ['workflow', 'submit', `examples/${file}`, '--workflow-id', workflow_id, '--watch', '--json'];
  const { exitCode, stdout, stderr } = await flowmesh(...args);
  expect(exitCode, stderr).toBe(0);
  return JSON.parse(stdout) as { status: string; result: JsonObject };
}

interface ShownStep {
  step_id: string;
  status: string;
  error: { code: string; message: string } | null;
}

/** As the third peer tells of a workflow that the first one took. */
async function fromAnotherPeer(workflow_id: string) {
  const asked = mesh.peers[2]!;
  const { result } = await asked.call('workflow_result', { workflow_id });
  const { steps, peer_id } = (await asked.call('workflow_status', { workflow_id })) as unknown as {
    steps: ShownStep[];
    peer_id: string;
  };
  expect(peer_id).toBe(mesh.peers[0]!.peer_id);
  return { result, steps: Object.fromEntries(steps.map((step) => [step.step_id, step])) };
}

const runs: Record<string, (file: string) => Promise<void>> = {
  async 'word-count.yaml'(file) {
    const { result } = await submit(file, 'words');
    const files = await Promise.all(
      ['harbour', 'lighthouse', 'tides'].map(async (name) => {
        const text = await readFile(join(EXAMPLES, 'data', `${name}.txt`), 'utf8');
        return { file: `examples/data/${name}.txt`, words: text.match(/\S+/g)!.length };
      }),
    );
    const longest = files.toSorted((a, b) => b.words - a.words)[0]!.file;
    const expected = { total: files.reduce((sum, { words }) => sum + words, 0), longest, files };
    expect(result).toEqual(expected);
    expect((await fromAnotherPeer('words')).result).toEqual(expected);
  },

  async 'diamond.yaml'(file) {
    const { result } = await submit(file, 'diamond');
    expect(result).toEqual({ sum: 63, sentence: 'Double is 14, square is 49.' });
    expect((await fromAnotherPeer('diamond')).result).toEqual(result);
  },

  async 'deploy-with-retry.yaml'(file) {
    const { result } = await submit(file, 'release');
    const expected = { version: '2.0.0', risk: 'high', upload_attempts: 3, servers: ['north-1', 'north-2'] };
    expect(result).toEqual({ ...expected, announced: false });
    const { steps } = await fromAnotherPeer('release');
    expect(steps).toMatchObject({
      careful: { status: 'completed' },
      direct: { status: 'skipped', error: null },
      announce: { status: 'skipped', error: { message: 'fn:announce failed: no channel is configured' } },
    });
    // The retries can be seen: two failures with the reason of each.
    const { attempt, metrics } = (await mesh.peers[1]!.call('task_status', {
      task_id: 'release:upload',
      include_metrics: true,
    })) as { attempt: number; metrics: { failures: number; attempt_history: JsonObject[] } };
    expect([attempt, metrics.failures]).toEqual([3, 2]);
    expect(metrics.attempt_history).toMatchObject([
      { error: { message: 'fn:upload_release failed: the registry is busy (attempt 1)' } },
      { error: { message: 'fn:upload_release failed: the registry is busy (attempt 2)' } },
    ]);
  },

  async 'nested.yaml'(file) {
    const regions = [
      { region: 'north', net: 240, vat: 48 },
      { region: 'south', net: 70, vat: 14 },
      { region: 'west', net: 0, vat: 0 },
    ];
    const { result } = await submit(file, 'sales');
    expect(result).toEqual({ regions, net: 310, vat: 62 });
    // The runs inside are workflows like any other, to be found and asked for from any peer.
    const { workflows } = (await mesh.peers[2]!.call('workflow_list', { scope: 'mesh' })) as unknown as {
      workflows: { workflow_id: string; name: string; status: string }[];
    };
    const inner = workflows.filter(({ name }) => name.startsWith('region-'));
    expect(inner.map(({ name }) => name).sort()).toEqual(['region-north', 'region-south', 'region-west']);
    const results = await Promise.all(inner.map(({ workflow_id }) => fromAnotherPeer(workflow_id)));
    expect(results.map((each) => each.result)).toEqual(expect.arrayContaining(regions));
    const west = results.find((each) => (each.result as JsonObject)['region'] === 'west')!;
    expect(west.steps).toMatchObject({ sum: { status: 'completed' }, tax: { status: 'skipped' } });
  },

  async 'approval.yaml'(file) {
    const headline = 'LANTERNS ON THE SAND AGAIN THIS YEAR';
    const approved = submit(file, 'approved');
    const rejected = submit(file, 'rejected');
    for (const workflow_id of ['approved', 'rejected']) {
      const shown = () => mesh.peers[2]!.call('workflow_status', { workflow_id });
      await eventually(
        'it waits for a person',
        async () => (await shown().catch(() => null))?.['status'] === 'input_required',
      );
    }
    const task = await mesh.peers[1]!.call('task_status', { task_id: 'approved:review' });
    const question = `Print "${headline}"? It is 36 characters long.`;
    expect(task).toMatchObject({ status: 'input_required', worker_id: null, progress_message: question });
    expect((await fromAnotherPeer('approved')).steps['review']).toMatchObject({ reason: question });

    // The answers are given at peers that do not own the workflow.
    const answer = (peer: number, ...args: string[]) =>
      runCli(['task', 'answer', ...args, '--url', mesh.peers[peer]!.http_url!]);
    const yes = await answer(1, 'approved:review', '--approve', '--data', '{"edition":"evening","by":"Ada"}');
    expect(yes.exitCode, yes.stderr).toBe(0);
    const no = await answer(2, 'rejected:review', '--reject', '--data', '{"reason":"too long"}');
    expect(no.exitCode, no.stderr).toBe(0);
    expect((await approved).result).toEqual({
      published: { headline, edition: 'evening', approved_by: 'Ada' },
      archived: null,
    });
    expect((await rejected).result).toEqual({ published: null, archived: { headline, archived: true } });
    expect((await fromAnotherPeer('rejected')).steps).toMatchObject({
      review: { status: 'failed', error: { code: 'REJECTED' } },
      publish: { status: 'skipped' },
    });
    const again = await answer(1, 'approved:review', '--reject');
    expect(again.exitCode).toBe(1);
  },
};

it('no example is missing here', async () => {
  const files = (await readdir(EXAMPLES)).filter((file) => /\.(ya?ml|json)$/.test(file));
  expect(Object.keys(runs).sort()).toEqual(files.sort());
});

it.each(Object.keys(runs))('%s', (file) => runs[file]!(file));
