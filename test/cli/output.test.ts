/** What people and scripts see: tables, JSON as it is, errors with their place, exit codes. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { DURATION_MS_MAX } from '../../dag/limits.ts';
import { renderOutput, renderTable, shortPeerId } from '../../node/cli/render.ts';
import { claimDataFolder } from '../../node/data-folder.ts';
import { tools } from '../../tools/registry.ts';
import { type McpEndpoint, startEndpoint } from './mcp-endpoint.ts';
import { runCli } from './run-cli.ts';

const PEER = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo';
const PEERS: JsonObject = {
  success: true,
  peers: [
    {
      peer_id: PEER,
      name: 'peer-2',
      status: 'connected',
      latency_ms: 0.412,
      capabilities: ['echo', 'gpu'],
      connected_since: null,
    },
    {
      peer_id: `${PEER}x`,
      name: null,
      status: 'disconnected',
      latency_ms: null,
      capabilities: [],
      connected_since: null,
    },
  ],
  total_count: 7,
  returned_count: 2,
  has_more: true,
};

const CONTROL = /[^\P{Cc}\n\t]|\u202e/u;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowmesh-cli-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function withEndpoint<T>(
  answer: (tool: string, input: JsonObject) => JsonObject,
  body: (endpoint: McpEndpoint) => Promise<T>,
  options: Parameters<typeof startEndpoint>[1] = {},
): Promise<T> {
  const endpoint = await startEndpoint(answer, options);
  try {
    return await body(endpoint);
  } finally {
    await endpoint.close();
  }
}

describe('output', () => {
  it.for([false, true])('a list is a table with aligned columns (answers streamed: %s)', (stream) =>
    withEndpoint(
      () => PEERS,
      async ({ url }) => {
        const { exitCode, stdout } = await runCli(['peer', 'list', '--url', url]);
        expect(exitCode).toBe(0);
        const lines = stdout.split('\n');
        expect(lines[0]).toMatch(/^PEER ID +NAME +STATUS/);
        const column = lines[0]!.indexOf('STATUS');
        expect(lines[1]!.slice(column)).toMatch(/^connected/);
        expect(lines[2]!.slice(column)).toMatch(/^disconnected/);
        // Elsewhere than in a terminal nothing is shortened.
        expect(lines[1]).toContain(PEER);
        expect(lines[1]).toMatch(/0\.41 ms/);
        expect(stdout).toMatch(/2 of 7; --offset/);
      },
      { stream },
    ),
  );

  it('--json is the output of the tool and nothing else', () =>
    withEndpoint(
      () => PEERS,
      async ({ url }) => {
        const { stdout } = await runCli(['peer', 'list', '--json', '--url', url]);
        expect(JSON.parse(stdout)).toEqual(PEERS);
      },
    ));

  it('the peer of FLOWMESH_URL is asked, also when the URL names /mcp', () =>
    withEndpoint(
      () => PEERS,
      async ({ url, calls }) => {
        const { exitCode } = await runCli(['peer', 'list'], { FLOWMESH_URL: `${url}/mcp` });
        expect(exitCode).toBe(0);
        expect(calls).toEqual([{ tool: 'peer_list', input: {} }]);
      },
    ));

  it('how long a task may take is not for the command to wait, and may be a month', () =>
    withEndpoint(
      () => ({ success: true, task_id: 't' }),
      async ({ url, calls }) => {
        const typed = ['task', 'submit', 'echo', '--timeout-ms', String(DURATION_MS_MAX), '--url', url];
        expect(await runCli(typed)).toMatchObject({ exitCode: 0, stderr: '' });
        expect(calls).toEqual([{ tool: 'task_submit', input: { task_type: 'echo', timeout_ms: DURATION_MS_MAX } }]);
      },
    ));

  it('a wait that no timer holds is waited for as long as calls may take', () =>
    withEndpoint(
      () => ({ success: true, worker_id: 'w' }),
      async ({ url }) => {
        const typed = ['worker', 'unregister', 'w', '--timeout-ms', String(DURATION_MS_MAX), '--url', url];
        expect(await runCli(typed)).toMatchObject({ exitCode: 0, stderr: '' });
      },
    ));

  it('facts stand in two columns, with units and without success', () => {
    const output: JsonObject = {
      success: true,
      queued_count: 3,
      average_wait_time_ms: 2_400,
      paused: false,
      throughput_per_minute: null,
    };
    const lines = renderOutput(tools.get('queue_stats')!, output, undefined).split('\n');
    expect(lines).toEqual([
      'queued count           3',
      'average wait time      2.4 s',
      'paused                 no',
      'throughput per minute  –',
    ]);
  });

  it('a drawing is printed as it is, so that it can be piped', () => {
    const dag = 'digraph {\n  a -> b\n}';
    expect(renderOutput(tools.get('workflow_dependencies')!, { success: true, dag, nodes: [], edges: [] }, 20)).toBe(
      dag,
    );
  });

  it('a narrow terminal shortens peer ids first, then the widest column, and never exceeds its width', () => {
    const rows = [{ peer_id: PEER, name: 'a-peer-with-a-rather-long-name', status: 'connected' }];
    const wide = renderTable(rows, ['peer_id', 'name', 'status'], 70);
    expect(wide).toContain(shortPeerId(PEER));
    expect(wide).toContain('a-peer-with-a-rather-long-name');
    const narrow = renderTable(rows, ['peer_id', 'name', 'status'], 50);
    for (const line of narrow.split('\n')) expect(line.length).toBeLessThanOrEqual(50);
    expect(narrow).toContain('connected');
    const tiny = renderTable(rows, ['peer_id', 'name', 'status'], 30);
    for (const line of tiny.split('\n')) expect(line.length).toBeLessThanOrEqual(30);
  });

  it('the id that other commands take is whole while any other column can make room', () => {
    const task_id = 'workflow-with-a-long-name:a-step-of-it:12';
    const rows = [
      { task_id, task_type: 'fn:resize', peer_id: PEER, worker_id: 'worker-of-that-peer', status: 'running' },
    ];
    const shown = renderTable(rows, ['task_id', 'task_type', 'worker_id', 'peer_id', 'status'], 80);
    expect(shown).toContain(task_id);
    for (const line of shown.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  it('an id is never cut, however narrow the terminal: its column is left out, or goes beyond the edge', () => {
    const task_id = 'workflow-with-a-long-name:a-step-of-it:12';
    const rows = [{ task_id, status: 'running', worker_id: 'worker-of-that-peer', peers: [PEER, PEER, PEER] }];
    const columns = ['task_id', 'status', 'worker_id', 'peers'];
    for (let width = 10; width < 140; width++) {
      const shown = renderTable(rows, columns, width);
      expect(shown).toContain(task_id);
      for (const word of shown.split('\n').at(-1)!.split(/[ ,]+/)) {
        const whole = [task_id, 'running', 'worker-of-that-peer', PEER, shortPeerId(PEER), '+1', '+2'];
        if (word !== '' && !/^r?u?n?n?i?n?…$/.test(word)) expect(whole).toContain(word);
      }
    }
    expect(renderTable(rows, columns, 95)).toMatch(new RegExp(`${shortPeerId(PEER)} \\+2$`));
  });

  it('control characters that others wrote are shown as escapes, in tables, facts, data, lines of logs and JSON', () => {
    const evil = 'a\u001b]0;t\u0007\u009b2J\u202eb\r\n\tc';
    const tool = { name: 'x', cli: { list: { field: 'rows', columns: ['name', 'tags', 'error'] } } };
    const error = { code: 'C', message: evil, retryable: false };
    const text = renderOutput(
      tool,
      {
        rows: [{ name: evil, tags: [evil, { [evil]: evil }], error }],
        [evil]: evil,
        status: evil,
        text: `two\nlines ${evil}`,
        result: { [evil]: evil },
        error,
        logs: [{ at: evil, stream: evil, step_id: evil, line: evil }],
      },
      undefined,
    );
    expect(text).not.toMatch(CONTROL);
    expect(text).toContain('a\\x1b]0;t\\x07\\x9b2J\\u202eb\\r\\n\\tc');
    expect(text).toContain('two\n');
  });

  it('the same in what a command prints: the error, and --json, which stays the same JSON', () =>
    withEndpoint(
      (tool): JsonObject =>
        tool === 'task_status'
          ? { success: false, error: { code: 'X', message: 'no\u001b[8mthing\u009b', retryable: false } }
          : { success: true, name: 'no\u001b[8mthing\u009b' },
      async ({ url }) => {
        const failed = await runCli(['task', 'status', 't', '--url', url]);
        expect(failed.stderr).not.toMatch(CONTROL);
        expect(failed.stderr).toContain('no\\x1b[8mthing\\x9b');
        const { stdout } = await runCli(['workflow', 'status', 'w', '--json', '--url', url]);
        expect(stdout).not.toMatch(CONTROL);
        expect(JSON.parse(stdout)).toEqual({ success: true, name: 'no\u001b[8mthing\u009b' });
      },
    ));
});

describe('errors', () => {
  const failure: JsonObject = {
    success: false,
    error: { code: 'NOT_FOUND', message: 'no workflow "w" is known', retryable: false },
  };

  it("a tool's failure is exit code 1 with its code and sentence", () =>
    withEndpoint(
      () => failure,
      async ({ url }) => {
        const { exitCode, stdout, stderr } = await runCli(['workflow', 'status', 'w', '--url', url]);
        expect(exitCode).toBe(1);
        expect(stdout).toBe('');
        expect(stderr).toContain('NOT_FOUND  no workflow "w" is known');
      },
    ));

  it('--json prints the failure as the tool answered it', () =>
    withEndpoint(
      () => failure,
      async ({ url }) => {
        const { exitCode, stdout } = await runCli(['workflow', 'status', 'w', '--json', '--url', url]);
        expect(exitCode).toBe(1);
        expect(JSON.parse(stdout)).toEqual(failure);
      },
    ));

  it('no peer on this machine is exit code 3 and says how to start one', async () => {
    const { exitCode, stderr } = await runCli(['peer', 'list'], { FLOWMESH_HOME: folder }, { cwd: folder });
    expect(exitCode).toBe(3);
    expect(stderr).toContain('flowmesh node start --bootstrap');
  });

  it('a peer that is gone is exit code 3 and names its address', async () => {
    const { url, close } = await startEndpoint(() => PEERS);
    await close();
    const { exitCode, stderr } = await runCli(['peer', 'list', '--url', url]);
    expect(exitCode).toBe(3);
    expect(stderr).toContain(url);
    expect(stderr).toContain('nothing listens there');
  });

  it('a data folder without a running peer is exit code 3', async () => {
    const { exitCode, stderr } = await runCli(['peer', 'list', '--data-dir', folder]);
    expect(exitCode).toBe(3);
    expect(stderr).toContain(folder);
  });

  it('that no peer is found says what was looked for, who named it, and every way to name another', async () => {
    const home = await mkdtemp(join(tmpdir(), 'flowmesh-none-'));
    const folder = await claimDataFolder({ home, mesh: 'harbour', explicit: undefined });
    const facts = { pid: process.pid, name: 'x', version: '0', started_at: '2027-01-31T12:00:00.000Z', peer_id: 'p' };
    await folder.record({
      ...facts,
      mesh: 'harbour',
      http_url: 'http://127.0.0.1:1',
      addresses: [],
      tls_cert: null,
      admin_key: null,
    });
    const env = { FLOWMESH_HOME: home, FLOWMESH_MESH: 'other' };
    const { stderr } = await runCli(['peer', 'list'], env, { cwd: home });
    expect(stderr).toContain('no peer of mesh "other", which FLOWMESH_MESH names, runs on this machine');
    expect(stderr).toContain('add --mesh harbour to talk to them');
    for (const way of ['flowmesh node start', '--url', '--data-dir', 'FLOWMESH_URL', 'FLOWMESH_DATA_DIR']) {
      expect(stderr).toContain(way);
    }
    // What is typed is stronger than a variable.
    const named = { ...env, FLOWMESH_URL: 'http://127.0.0.1:2' };
    expect((await runCli(['peer', 'list', '--mesh', 'harbour'], named)).stderr).toContain(
      'http://127.0.0.1:1 does not',
    );
    await folder.release();
    await rm(home, { recursive: true });
  });

  it('a server that is no peer is said to be none', () =>
    withEndpoint(
      () => ({ hello: 'world' }),
      async ({ url }) => {
        const { exitCode, stderr } = await runCli(['task', 'answer', 't', '--approve', '--url', url]);
        expect(exitCode).toBe(1);
        expect(stderr).toContain('HTTP 405');
      },
      { answerStatus: 405 },
    ));
});

describe('workflow files', () => {
  const submit = async (
    name: string,
    text: string,
    answer: () => JsonObject = () => ({ success: true, workflow_id: 'w' }),
  ) => {
    const path = join(folder, name);
    await writeFile(path, text);
    return withEndpoint(answer, async ({ url, calls }) => ({
      ...(await runCli(['workflow', 'submit', path, '--url', url])),
      calls: [...calls],
      path,
    }));
  };

  it('JSON and YAML are both read', async () => {
    const steps = [{ step_id: 'a', action: 'echo' }];
    const json = await submit('w.json', JSON.stringify({ name: 'w', steps }, null, 2));
    const yaml = await submit('w.yaml', 'name: w\nsteps:\n  - step_id: a\n    action: echo\n');
    expect(json.calls).toEqual(yaml.calls);
    expect(yaml.calls).toEqual([{ tool: 'workflow_submit', input: { name: 'w', steps } }]);
  });

  it.for([
    ['bad.yaml', 'name: w\nsteps:\n  - step_id: [a\n', 4, 1],
    ['twice.yaml', 'name: w\nsteps: []\nname: v\n', 3, 1],
    ['bad.json', '{\n  "name": "w"\n  "steps": []\n}\n', 3, 3],
  ] as const)('a syntax error is shown at its place: %s', async ([name, text, line, col]) => {
    const { exitCode, stderr, calls, path } = await submit(name, text);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`${path}:${line}:${col}: `);
    const [, source, caret] = stderr.split('\n');
    expect(source).toBe(`  ${line} | ${text.split('\n')[line - 1]}`);
    expect(caret!.indexOf('^') - source!.indexOf('|')).toBe(col + 1);
    expect(calls).toEqual([]);
  });

  it('what the peer finds wrong is shown where it stands in the file', async () => {
    const text =
      'name: w\nsteps:\n  - step_id: a\n    action: echo\n  - step_id: b\n    action: echo\n    depends_onn: [a]\n';
    const { exitCode, stderr, path } = await submit('typo.yaml', text, () => ({
      success: false,
      error: {
        code: 'INVALID_INPUT',
        message: 'workflow_submit: …',
        retryable: false,
        details: {
          problems: [{ path: 'steps[1].depends_onn', message: 'is not a known field (did you mean "depends_on"?)' }],
        },
      },
    }));
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`${path}:7:5: steps[1].depends_onn: is not a known field (did you mean "depends_on"?)`);
    expect(stderr).toContain('  7 |     depends_onn: [a]');
  });

  it('a missing file, a folder and a list are said to be what they are', async () => {
    const missing = await runCli(['workflow', 'submit', join(folder, 'none.yaml')]);
    expect([missing.exitCode, missing.stderr]).toEqual([2, expect.stringContaining('there is no such file')]);
    const isFolder = await runCli(['workflow', 'submit', folder]);
    expect([isFolder.exitCode, isFolder.stderr]).toEqual([2, expect.stringContaining('it is a folder')]);
    const list = await submit('list.yaml', '- a\n- b\n');
    expect([list.exitCode, list.stderr]).toEqual([2, expect.stringContaining('a workflow is an object')]);
  });

  it('a file larger than a submission may be is refused before it is read', async () => {
    const { exitCode, stderr } = await submit('large.yaml', `name: ${'x'.repeat(9 * 1024 * 1024)}`);
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining('8 MiB')]);
  });
});

describe('routes of the peer that are no tools', () => {
  it('task answer sends the decision and its data', () =>
    withEndpoint(
      () => ({ success: true, task_id: 'w:review', status: 'completed' }),
      async ({ url, answers }) => {
        const approve = await runCli([
          'task',
          'answer',
          'w:review',
          '--approve',
          '--data',
          '{"by":"me"}',
          '--url',
          url,
        ]);
        expect([approve.exitCode, approve.stderr]).toEqual([0, '']);
        const reject = await runCli(['task', 'answer', 'w:review', '--reject', '--url', url]);
        expect([reject.exitCode, reject.stderr]).toEqual([0, '']);
        expect(answers).toEqual([
          { task_id: 'w:review', body: { approve: true, data: { by: 'me' } } },
          { task_id: 'w:review', body: { approve: false, data: null } },
        ]);
      },
    ));

  it("task answer shows the peer's refusal", () =>
    withEndpoint(
      () => ({ success: false, error: { code: 'INVALID_STATE', message: 'it was answered before', retryable: false } }),
      async ({ url }) => {
        const { exitCode, stderr } = await runCli(['task', 'answer', 't', '--reject', '--url', url]);
        expect([exitCode, stderr]).toEqual([1, expect.stringContaining('INVALID_STATE  it was answered before')]);
      },
      { answerStatus: 409 },
    ));

  it.for([
    [true, 0],
    [false, 1],
  ] as const)('node status of a peer with ready %s is exit code %i', ([ready, code]) =>
    withEndpoint(
      () => ({}),
      async ({ url }) => {
        const { exitCode, stdout } = await runCli(['node', 'status', '--json', '--url', url]);
        expect(exitCode).toBe(code);
        expect(JSON.parse(stdout)).toMatchObject({ url, ready, name: 'p' });
      },
      { ready: { ready, name: 'p' } },
    ),
  );
});
