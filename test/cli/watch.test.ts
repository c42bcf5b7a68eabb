/** Following a workflow: lines as it moves, the result at the end, and what an interruption leaves behind. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { plainView, renderRun, type ShownRun } from '../../node/cli/watch-view.ts';
import { claimDataFolder } from '../../node/data-folder.ts';
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
    waiting: null,
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
      error: { code: 'EXIT_CODE', message: 'wc ended with 2', retryable: false },
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

  it('of a duplicate it says that nothing was run', async () => {
    const answers = script([run('completed', [COUNTED, TOTALLED])]);
    const endpoint = await startEndpoint((tool) =>
      tool === 'workflow_submit'
        ? { success: true, workflow_id: 'w-1', status: 'completed', duplicate: true }
        : answers(tool),
    );
    const input = 'name: w\nsteps: [{ step_id: count, action: echo }]\n';
    const watched = await runCli(['workflow', 'submit', '-', '--watch', '--url', endpoint.url], {}, { input });
    await endpoint.close();
    expect(watched.exitCode).toBe(0);
    expect(watched.stderr).toMatch(/^w-1 was submitted before with the same content: nothing was started now\./);
  });

  it('the result of a run that failed is exit code 1, of one that runs 0', async () => {
    const error = { code: 'STEP_FAILED', message: 'step count failed', retryable: false };
    for (const [status, expected] of [
      ['failed', 1],
      ['cancelled', 1],
      ['running', 0],
      ['completed', 0],
    ] as const) {
      const endpoint = await startEndpoint(() => ({ success: true, workflow_id: 'w-1', status, result: null, error }));
      const { exitCode, stdout } = await runCli(['workflow', 'result', 'w-1', '--url', endpoint.url]);
      await endpoint.close();
      expect([status, exitCode]).toEqual([status, expected]);
      expect(stdout).toContain(status);
    }
  });

  it('goes on at another peer of the mesh on this machine when its own is gone', async () => {
    const home = await mkdtemp(join(tmpdir(), 'flowmesh-watch-'));
    const ready = { ready: true, mesh: 'm', peer_id: 'p1', name: 'first' };
    const first = await startEndpoint(script([RUNNING]), { ready });
    const tried: string[] = [];
    // Until the dead peer's work is taken over nobody else may know of it.
    const answers = script([run('running', [COUNTED, step('total')]), run('completed', [COUNTED, TOTALLED])]);
    const second = await startEndpoint((tool) => {
      tried.push(tool);
      const unknown = { success: false, error: { code: 'NOT_FOUND', message: 'no workflow', retryable: false } };
      return tried.length === 1 ? unknown : answers(tool);
    });
    const folders = [];
    for (const { url } of [first, second]) {
      const folder = await claimDataFolder({ home, mesh: 'm', explicit: undefined });
      const base = { pid: process.pid, mesh: 'm', name: 'x', version: '0', started_at: T0 };
      await folder.record({ ...base, peer_id: 'p1', http_url: url, addresses: [], tls_cert: null, admin_key: null });
      folders.push(folder);
    }
    const child = startCli(['workflow', 'status', 'w-1', '--watch', '--url', first.url], { FLOWMESH_HOME: home });
    await new Promise((resolve) => child.stderr!.once('data', resolve));
    await first.close();
    const { exitCode, stdout, stderr } = await child;
    await second.close();
    for (const folder of folders) await folder.release();
    await rm(home, { recursive: true });
    expect(stderr).toContain(
      `The peer at ${first.url} does not answer any more; watching through the one at ${second.url}.`,
    );
    expect(stderr).toMatch(/word-count {2}completed {2}2 of 2 steps/);
    expect(JSON.parse(String(stdout))).toEqual({ words: 3 });
    expect(exitCode).toBe(0);
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
  const picture = (shown: ShownRun, rows = 24, columns = 200) =>
    stripVTControlCharacters(renderRun(shown, (peer) => peer, { rows, columns })).split('\n');

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
    expect(lines[1]).toContain('waits for a person');
    expect(lines[2]).toMatch(/^ +flowmesh task answer w-1:review --approve$/);
    const asking = step('review', {
      status: 'input_required',
      reason: 'Print it?\nReally?',
      asking_task: 'w-1:review:7',
    });
    expect(
      picture(run('input_required', [asking]))
        .slice(1)
        .join(' '),
    ).toMatch(/asks: Print it\? Really\? +flowmesh task answer w-1:review:7 --approve$/);
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

  const FAN_OUT = step('count', {
    status: 'running',
    tasks: 20,
    peers: ['ada', 'ben'],
    items: {
      total: 40,
      completed: 12,
      failed: 1,
      skipped: 0,
      running: 7,
      by_peer: [
        { peer_id: 'ada', tasks: 11 },
        { peer_id: 'ben', tasks: 9 },
      ],
    },
    failed_task: {
      task_id: 'w-1:count:3',
      index: 3,
      peer_id: 'ben',
      error: { code: 'EXIT_CODE', message: 'wc ended with 1', retryable: false },
    },
  });

  it('shows done, failed and total of a fan-out, a column per peer, the failed item and where to look', () => {
    const lines = picture(
      run('running', [FAN_OUT, step('total', { status: 'completed', ended_at: T1, peers: ['ben'] })]),
    );
    expect(lines[1]).toMatch(/^ +ada +ben$/);
    const columns = ['ada', 'ben'].map((name) => lines[1]!.indexOf(name) + name.length);
    expect(lines[2]).toMatch(/▸ {2}count {2}echo {2}12\/40, 1 failed +11 +9 {2}\(20 tasks/);
    expect(columns.map((end) => lines[2]!.slice(0, end).match(/\S+$/)![0])).toEqual(['11', '9']);
    expect(lines[3]).toMatch(/^ +item 3 failed on ben {2}EXIT_CODE: wc ended with 1$/);
    expect(lines[4]).toMatch(/^ +flowmesh task status w-1:count:3 --include-logs$/);
    expect(columns.map((end) => lines[5]!.slice(0, end).match(/\S+$/)![0])).toEqual(['·', '1']);
  });

  it('without room for the columns each step says what the peers ran', () => {
    expect(picture(run('running', [FAN_OUT]), 24, 20).join('\n')).not.toMatch(/ada +ben$/m);
  });

  it('shows the attempt and when the next one is', () => {
    const error = { code: 'EXIT_CODE', message: 'it ended with 1', retryable: true };
    const retrying = { task_id: 'w-1:s', index: null, attempt: 2, attempts_max: 4, error };
    const soon = { ...retrying, next_at: new Date(Date.now() + 60_000).toISOString() };
    const waiting = picture(run('running', [step('s', { status: 'running', retrying: soon })]))[1];
    expect(waiting).toMatch(/attempt 2 of 4 in (1 min \d s|\d+ s), at [\d :-]+ {2}after EXIT_CODE: it ended with 1$/);
    const now = picture(
      run('running', [step('s', { status: 'running', retrying: { ...retrying, next_at: null } })]),
    )[1];
    expect(now).toMatch(/attempt 2 of 4 {2}after EXIT_CODE/);
  });

  it('the headline stays and no line is wider than the terminal, but for a command, which is whole', () => {
    const long = 'x'.repeat(300);
    const failed = {
      ...FAN_OUT,
      failed_task: { ...FAN_OUT.failed_task!, error: { code: 'C', message: long, retryable: false } },
    };
    for (const [rows, columns] of [
      [24, 80],
      [10, 40],
      [9, 30],
    ] as const) {
      const lines = picture(
        run('failed', [failed, ...Array.from({ length: 30 }, (_, n) => step(`s${n}`))], { error: null }),
        rows,
        columns,
      );
      expect(lines[0]).toMatch(/^word-c.* {2}failed {2}.* {2}w-1$/);
      for (const line of lines.slice(1))
        if (!line.includes('flowmesh task')) expect(line.length).toBeLessThanOrEqual(columns);
      expect(lines.join('\n')).toContain('flowmesh task status w-1:count:3 --include-logs');
      const height = lines.reduce((sum, line) => sum + Math.ceil(line.length / columns), 0);
      expect(height).toBeLessThan(rows);
    }
  });

  it('in plain lines things are told in the order in which they happened', () => {
    const at = (second: number) => `2027-01-31T12:00:0${second}.000Z`;
    const lines: string[] = [];
    const view = plainView((line) => lines.push(line.replace(/^\S+ \S+ +|^\S+ +/, '')));
    const steps = [
      step('late', { status: 'completed', started_at: at(3), ended_at: at(5), peers: ['p'] }),
      step('early', { status: 'completed', started_at: at(1), ended_at: at(2), peers: ['p'] }),
      step('middle', { status: 'running', started_at: at(4), peers: ['p'] }),
      FAN_OUT,
    ];
    view.show(run('running', steps), (peer) => peer);
    expect(lines.filter((line) => !line.startsWith('count')).map((line) => line.split(' ')[0])).toEqual([
      'early',
      'middle',
      'late',
    ]);
    expect(lines).toContain(
      'count  item 3 failed on ben  EXIT_CODE: wc ended with 1  flowmesh task status w-1:count:3 --include-logs',
    );
    view.show(run('running', steps), (peer) => peer);
    expect(lines.length).toBe(5);
  });

  it('in plain lines times never go back, and what waits is told once, whatever numbers change in it', () => {
    const lines: string[] = [];
    const view = plainView((line) => lines.push(line));
    const waits = (before: number, other: Partial<Step> = {}) =>
      step('w', { status: 'queued', waiting: { for: 'slot', reason: `${before} before it`, since: T0 }, ...other });
    view.show(run('running', [waits(12)]), (peer) => peer);
    view.show(run('running', [waits(3)]), (peer) => peer);
    view.show(run('running', [step('w', { status: 'running', peers: ['p'] })]), (peer) => peer);
    expect(lines.map((line) => line.replace(/^(\S+ )?\S+ {2}/, ''))).toEqual([
      'w  waits: 12 before it',
      'w  running on p',
    ]);
    const times = lines.map((line) => line.replace(/ {2}w .*/, ''));
    expect(times).toEqual([...times].sort());
  });

  it('what is ordinary is not told in lines: that a step follows another', () => {
    const lines: string[] = [];
    const after = step('b', { waiting: { for: 'steps', reason: 'depends on a', since: T0 } });
    plainView((line) => lines.push(line)).show(run('running', [after]), (peer) => peer);
    expect(lines).toEqual([]);
    expect(picture(run('running', [after]))[1]).toMatch(/· {2}b {2}echo {2}waits: depends on a$/);
  });

  it('what others wrote is shown escaped', () => {
    const evil = 'a\u001b[2J\u009bb';
    const error = { code: 'C', message: evil, retryable: false };
    const steps = [
      step('a', { status: 'failed', ended_at: T1, error, action: evil, reason: evil }),
      step('b', { status: 'input_required', reason: evil }),
      { ...FAN_OUT, failed_task: { ...FAN_OUT.failed_task!, error } },
    ];
    const lines: string[] = [];
    const shown = run('failed', steps, { name: evil });
    plainView((line) => lines.push(line)).show(shown, (peer) => peer);
    const all = `${lines.join('\n')}\n${renderRun(shown, (peer) => peer, { rows: 24, columns: 200 })}`;
    expect(stripVTControlCharacters(all)).toContain('a\\x1b[2J\\x9bb');
    expect(all).not.toContain(evil);
    expect(all).not.toContain('\u009b');
  });
});
