/** Following a workflow: lines as it moves, the result at the end, and what an interruption leaves behind. */
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { plainView, renderRun, type ShownRun } from '../../node/cli/watch.ts';
import { startEndpoint } from './mcp-endpoint.ts';
import { runCli, startCli } from './run-cli.ts';

const T0 = '2027-01-31T12:00:00.000Z';
const T1 = '2027-01-31T12:00:01.200Z';
type Step = NonNullable<ShownRun['steps']>[number];

function step(step_id: string, change: Partial<Step> = {}): Step {
  return {
    step_id,
    action: 'echo',
    status: 'pending',
    reason: null,
    started_at: change.status === undefined || change.status === 'pending' ? null : T0,
    ended_at: null,
    error: null,
    tasks: 0,
    peers: [],
    ...change,
  };
}

function run(status: string, steps: Step[], change: Partial<ShownRun> = {}): ShownRun {
  const ended = steps.filter((each) => each.ended_at !== null).length;
  return {
    workflow_id: 'w-1',
    name: 'word-count',
    status,
    progress: (100 * ended) / steps.length,
    steps_total: steps.length,
    steps_ended: ended,
    start_time: T0,
    end_time: status === 'running' ? null : T1,
    error: null,
    steps,
    ...change,
  };
}

const RUNNING = run('running', [step('count', { status: 'running', tasks: 1, peers: ['p1'] }), step('total')]);
const COUNTED = step('count', { status: 'completed', ended_at: T1, tasks: 5, peers: ['p1', 'p2'] });
const TOTALLED = step('total', { status: 'completed', ended_at: T1, tasks: 1, peers: ['p2'] });

/** Answers `workflow_status` with one run after the other, the last for ever. */
function script(runs: ShownRun[], result: JsonObject = { status: 'completed', result: { words: 3 }, error: null }) {
  let next = 0;
  return (tool: string): JsonObject => {
    if (tool === 'workflow_submit') return { success: true, workflow_id: 'w-1' };
    if (tool === 'workflow_status')
      return { success: true, ...runs[Math.min(next++, runs.length - 1)] } as unknown as JsonObject;
    if (tool === 'peer_list') return { success: true, peers: [{ peer_id: 'p2', name: 'second' }] };
    return { success: true, workflow_id: 'w-1', ...result };
  };
}

describe('--watch', () => {
  it('tells each step with the names of its peers on stderr and prints the result alone on stdout', async () => {
    const endpoint = await startEndpoint(
      script([RUNNING, run('running', [COUNTED, step('total')]), run('completed', [COUNTED, TOTALLED])]),
      {
        ready: { ready: true, peer_id: 'p1', name: 'first' },
      },
    );
    const workflow = { input: 'name: w\nsteps: [{ step_id: count, action: echo }]\n' };
    const { exitCode, stdout, stderr } = await runCli(
      ['workflow', 'submit', '-', '--watch', '--url', endpoint.url],
      {},
      workflow,
    );
    await endpoint.close();
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ words: 3 });
    const lines = stderr.split('\n').map((line) => line.replace(/^(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d +/, ''));
    expect(lines).toEqual([
      'count  running on first',
      'count  completed on first, second (5 tasks, 1.2 s)',
      'total  completed on second (1.2 s)',
      expect.stringMatching(/^word-count {2}completed {2}2 of 2 steps {2}100 %/),
    ]);
  });

  it('a workflow that failed is exit code 1, with its error', async () => {
    const failed = step('count', {
      status: 'failed',
      ended_at: T1,
      error: { code: 'EXIT_CODE', message: 'wc ended with 2' },
    });
    const error = { code: 'STEP_FAILED', message: 'step count failed', retryable: false };
    const endpoint = await startEndpoint(script([run('failed', [failed])], { status: 'failed', result: null, error }));
    const { exitCode, stdout, stderr } = await runCli(['workflow', 'status', 'w-1', '--watch', '--url', endpoint.url]);
    const json = await runCli(['workflow', 'status', 'w-1', '--watch', '--json', '--url', endpoint.url]);
    await endpoint.close();
    expect(exitCode).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toContain('EXIT_CODE: wc ended with 2');
    expect(stderr).toContain('STEP_FAILED step count failed');
    expect(json.exitCode).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({ status: 'failed', error });
  });

  it('Ctrl-C leaves the workflow alone and says how to come back', async () => {
    const endpoint = await startEndpoint(script([RUNNING]));
    const child = startCli(['workflow', 'status', 'w-1', '--watch', '--url', endpoint.url]);
    await new Promise((resolve) => child.stderr!.once('data', resolve));
    child.kill('SIGINT');
    const { exitCode, stderr } = await child;
    await endpoint.close();
    expect(exitCode).toBe(130);
    expect(stderr).toContain('flowmesh workflow status w-1 --watch');
    expect(endpoint.calls.map(({ tool }) => tool)).not.toContain('workflow_cancel');
  });

  it('a peer that goes away while it is watched is exit code 3, and the workflow is said to go on', async () => {
    const endpoint = await startEndpoint(script([RUNNING]));
    const child = startCli(['workflow', 'status', 'w-1', '--watch', '--url', endpoint.url]);
    await new Promise((resolve) => child.stderr!.once('data', resolve));
    await endpoint.close();
    const { exitCode, stderr } = await child;
    expect(exitCode).toBe(3);
    expect(stderr).toContain('the workflow goes on');
  });
});

describe('the picture in a terminal', () => {
  const picture = (shown: ShownRun, rows = 24) =>
    stripVTControlCharacters(renderRun(shown, (peer) => peer, rows)).split('\n');

  it('has a line for the run and one for each step, aligned', () => {
    const lines = picture(
      run('completed', [COUNTED, step('a-longer-name', { status: 'skipped', reason: 'when was false' })]),
    );
    expect(lines[0]).toMatch(/^word-count {2}completed {2}1 of 2 steps {2}50 % {2}1\.2 s {2}w-1$/);
    expect(lines[1]).toMatch(/✔ {2}count {10}echo {2}\(5 tasks, 1\.2 s\) {2}p1, p2$/);
    expect(lines[2]).toMatch(/↷ {2}a-longer-name {2}echo .*when was false$/);
  });

  it('says how to answer a step that waits for a person', () => {
    const lines = picture(run('input_required', [step('review', { status: 'input_required' })]));
    expect(lines[1]).toContain('waits for a person  (flowmesh task answer w-1:review --approve)');
    const asking = step('review', { status: 'input_required', reason: 'Print it?\nReally?' });
    expect(picture(run('input_required', [asking]))[1]).toContain('asks: Print it? Really?  (flowmesh task answer');
  });

  it('fits the terminal: what runs or failed is shown, the rest is counted', () => {
    const steps = Array.from({ length: 100 }, (_, index) => step(`s${index}`));
    steps[70] = step('s70', { status: 'running' });
    steps[90] = step('s90', { status: 'failed', ended_at: T1 });
    const lines = picture(run('running', steps), 10);
    expect(lines.length).toBeLessThanOrEqual(9);
    expect(lines.join('\n')).toContain('s70');
    expect(lines.join('\n')).toContain('s90');
    expect(lines.at(-1)).toContain('and 94 more');
  });

  it('in plain lines a step is told once per change', () => {
    const lines: string[] = [];
    const view = plainView((line) => lines.push(line));
    for (const shown of [RUNNING, RUNNING, run('running', [COUNTED, step('total')])]) view.show(shown, (peer) => peer);
    expect(lines.length).toBe(2);
  });

  it('a step that ended without having started has no duration', () => {
    const lines: string[] = [];
    const skipped = step('direct', { status: 'skipped', started_at: null, ended_at: T1, reason: 'when was false' });
    plainView((line) => lines.push(line)).show(run('completed', [COUNTED, skipped]), (peer) => peer);
    expect(lines[1]).toMatch(/direct {2}skipped when was false$/);
  });
});
