/** Every tool as a command: what is typed is what the peer gets. */

import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { addToolCommand } from '../../node/cli/tool-command.ts';
import { inCommands } from '../../node/cli/wording.ts';
import { tools } from '../../tools/registry.ts';
import { type McpEndpoint, startEndpoint } from './mcp-endpoint.ts';
import { runCli } from './run-cli.ts';

const PEER = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo';

/** What is typed after `flowmesh`, and the tool's input that it stands for. */
const COMMANDS: Record<string, { typed: string[]; input: JsonObject; stdin?: string }> = {
  workflow_submit: {
    typed: [
      'workflow',
      'submit',
      '-',
      '--priority',
      '3',
      '--tags',
      'a',
      '--tags',
      'b',
      '--input',
      '{"n":1}',
      '--require-copies',
    ],
    stdin: 'name: w\npriority: 1\nsteps:\n  - { step_id: a, action: echo }\n',
    input: {
      name: 'w',
      steps: [{ step_id: 'a', action: 'echo' }],
      priority: 3,
      tags: ['a', 'b'],
      input: { n: 1 },
      require_copies: true,
    },
  },
  workflow_status: {
    typed: ['workflow', 'status', 'w-1', '--no-include-steps', '--include-metrics'],
    input: { workflow_id: 'w-1', include_steps: false, include_metrics: true },
  },
  workflow_cancel: {
    typed: ['workflow', 'cancel', 'w-1', '--reason', 'wrong one', '--force'],
    input: { workflow_id: 'w-1', reason: 'wrong one', force: true },
  },
  workflow_list: {
    typed: [
      'workflow',
      'list',
      '--status-filter',
      'running',
      '--tag-filter',
      'a',
      '--tag-filter',
      'b',
      '--limit',
      '5',
      '--scope',
      'mesh',
    ],
    input: { status_filter: 'running', tag_filter: ['a', 'b'], limit: 5, scope: 'mesh' },
  },
  workflow_dependencies: {
    typed: ['workflow', 'dependencies', 'w-1', '--format', 'dot'],
    input: { workflow_id: 'w-1', format: 'dot' },
  },
  workflow_result: {
    typed: ['workflow', 'result', 'w-1', '--no-include-outputs', '--include-logs'],
    input: { workflow_id: 'w-1', include_outputs: false, include_logs: true },
  },
  task_submit: {
    typed: [
      'task',
      'submit',
      'fn:resize',
      '--payload',
      '{"w":2}',
      '--retry-policy',
      '{"max_retries":2}',
      '--delay-ms',
      '50',
      '--at-most-once',
    ],
    input: {
      task_type: 'fn:resize',
      payload: { w: 2 },
      retry_policy: { max_retries: 2 },
      delay_ms: 50,
      at_most_once: true,
    },
  },
  task_status: { typed: ['task', 'status', 't-1', '--include-logs'], input: { task_id: 't-1', include_logs: true } },
  task_cancel: { typed: ['task', 'cancel', 't-1', '--force'], input: { task_id: 't-1', force: true } },
  task_list: {
    typed: ['task', 'list', '--dead-letter', '--priority-min', '2.5', '--offset', '10'],
    input: { dead_letter: true, priority_min: 2.5, offset: 10 },
  },
  task_priority: {
    typed: ['task', 'priority', 't-1', '--boost', '0.5', '--no-requeue'],
    input: { task_id: 't-1', boost: 0.5, requeue: false },
  },
  task_retry: {
    typed: ['task', 'retry', 't-1', '--retry-config', '{"max_retries":1}'],
    input: { task_id: 't-1', retry_config: { max_retries: 1 } },
  },
  task_result: {
    typed: ['task', 'result', 't-1', '--no-include-output'],
    input: { task_id: 't-1', include_output: false },
  },
  queue_stats: {
    typed: ['queue', 'stats', '--include-worker-stats', '--scope', 'mesh'],
    input: { include_worker_stats: true, scope: 'mesh' },
  },
  queue_pause: { typed: ['queue', 'pause', '--reason', 'upgrade'], input: { reason: 'upgrade' } },
  queue_resume: { typed: ['queue', 'resume', '--no-reorder-by-priority'], input: { reorder_by_priority: false } },
  queue_clear: {
    typed: ['queue', 'clear', '--confirm', '--status-filter', 'failed'],
    input: { confirm: true, status_filter: 'failed' },
  },
  worker_register: {
    typed: [
      'worker',
      'register',
      'pool',
      '--capabilities',
      'echo',
      '--capabilities',
      'gpu',
      '--max-concurrent-tasks',
      '2',
    ],
    input: { worker_id: 'pool', capabilities: ['echo', 'gpu'], max_concurrent_tasks: 2 },
  },
  worker_unregister: {
    typed: ['worker', 'unregister', 'pool', '--no-graceful', '--timeout-ms', '100'],
    input: { worker_id: 'pool', graceful: false, timeout_ms: 100 },
  },
  worker_status: {
    typed: ['worker', 'status', 'pool', '--include-tasks'],
    input: { worker_id: 'pool', include_tasks: true },
  },
  peer_discover: {
    typed: ['peer', 'discover', '--capability-filter', 'gpu', '--max-peers', '3'],
    input: { capability_filter: ['gpu'], max_peers: 3 },
  },
  peer_connect: {
    typed: ['peer', 'connect', '/ip4/127.0.0.1/tcp/7600', '--no-persist'],
    input: { multiaddr: '/ip4/127.0.0.1/tcp/7600', persist: false },
  },
  peer_disconnect: { typed: ['peer', 'disconnect', PEER, '--no-graceful'], input: { peer_id: PEER, graceful: false } },
  peer_list: { typed: ['peer', 'list', '--sort-by', 'latency'], input: { sort_by: 'latency' } },
  peer_metrics: {
    typed: ['peer', 'metrics', PEER, '--include-history', '--history-hours', '2'],
    input: { peer_id: PEER, include_history: true, history_hours: 2 },
  },
  bootstrap_network: {
    typed: ['bootstrap', 'network', '--bootstrap-nodes', '/ip4/127.0.0.1/tcp/7600', '--min-connections', '0'],
    input: { bootstrap_nodes: ['/ip4/127.0.0.1/tcp/7600'], min_connections: 0 },
  },
};

let endpoint: McpEndpoint;
beforeAll(async () => {
  endpoint = await startEndpoint((tool) => ({ success: true, tool }));
});
afterAll(() => endpoint.close());

describe('the words of the command line', () => {
  const words = (text: string, tool?: string) =>
    inCommands(text, tools, tool === undefined ? undefined : tools.get(tool));

  it('name commands and options where tools speak of tools and fields', () => {
    expect(words('task_list shows those there are')).toBe('`flowmesh task list` shows those there are');
    expect(words('queue_stats with `include_logs`')).toBe('`flowmesh queue stats` with `include_logs`');
    expect(words('send confirm: true to do it', 'queue_clear')).toBe('send --confirm to do it');
    expect(words('with scope "local" of task_id, or by dead_letter', 'task_list')).toBe(
      'with --scope local of task_id, or by --dead-letter',
    );
    expect(words('give include_outputs to workflow_id', 'workflow_result')).toBe(
      'give --no-include-outputs to <workflow_id>',
    );
    // What somebody named is nobody's to change.
    expect(words('no task "task_list" is known')).toBe('no task "task_list" is known');
  });

  it('name no tool in any help', async () => {
    for (const tool of tools.values()) {
      const group = new Command();
      addToolCommand(group, tool, true, async () => {});
      const help = group.commands[0]!.helpInformation();
      for (const name of tools.keys()) expect(help, `${tool.name} --help`).not.toContain(name);
      for (const field of Object.keys(tool.input.shape)) {
        if (field.includes('_') && !tool.cli?.positional?.includes(field))
          expect(help).not.toMatch(new RegExp(`\\b${field}\\b`));
      }
    }
  });

  it('are those of errors and messages too, and not of JSON', async () => {
    const failing = await startEndpoint(
      (tool): JsonObject =>
        tool === 'task_status'
          ? {
              success: false,
              error: { code: 'NOT_FOUND', message: 'no task "t"; task_list shows them', retryable: false },
            }
          : { success: true, message: 'w is accepted; workflow_status shows its progress' },
    );
    const failed = await runCli(['task', 'status', 't', '--url', failing.url]);
    const submitted = await runCli(['workflow', 'cancel', 'w', '--url', failing.url]);
    const json = await runCli(['workflow', 'cancel', 'w', '--json', '--url', failing.url]);
    await failing.close();
    expect(failed.stderr).toContain('no task "t"; `flowmesh task list` shows them');
    expect(submitted.stdout).toContain('`flowmesh workflow status` shows its progress');
    expect(json.stdout).toContain('workflow_status shows its progress');
  });

  it('list the workers of the mesh from the figures of its queues', async () => {
    const worker = { worker_id: 'w-1', peer_id: PEER, status: 'idle', labels: ['gpu'], slots: 4 };
    const figures = await startEndpoint(() => ({
      success: true,
      queued_count: 1,
      worker_stats: [worker],
      missing: [],
    }));
    const { exitCode, stdout } = await runCli(['worker', 'list', '--url', figures.url]);
    const json = await runCli(['worker', 'list', '--scope', 'local', '--json', '--url', figures.url]);
    await figures.close();
    expect([exitCode, figures.calls.map(({ input }) => input)]).toEqual([
      0,
      [
        { include_worker_stats: true, scope: 'mesh' },
        { include_worker_stats: true, scope: 'local' },
      ],
    ]);
    expect(stdout).toMatch(/^WORKER ID +PEER ID +STATUS +SLOTS/);
    expect(stdout).toMatch(/w-1 +12D3KooW\w+ +idle +4 .* gpu\n\n1 of 1/);
    expect(JSON.parse(json.stdout)).toMatchObject({ workers: [worker] });
  });
});

describe('every tool is a command', () => {
  it('names each of the tools and no other', () => {
    expect(Object.keys(COMMANDS).sort()).toEqual([...tools.keys()].sort());
  });

  it.for(Object.entries(COMMANDS))('%s', async ([tool, { typed, input, stdin }]) => {
    expect(tools.get(tool)!.input.safeParse(input).error).toBeUndefined();
    const before = endpoint.calls.length;
    const goodbyes = endpoint.goodbyes;
    const { exitCode, stdout, stderr } = await runCli(
      [...typed, '--json', '--url', endpoint.url],
      {},
      stdin === undefined ? {} : { input: stdin },
    );
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
    expect(endpoint.calls.slice(before)).toEqual([{ tool, input: { ...tools.get(tool)!.cli?.whole, ...input } }]);
    expect(JSON.parse(stdout)).toEqual({ success: true, tool });
    expect(endpoint.goodbyes).toBe(goodbyes + 1);
  });

  it.for(Object.entries(COMMANDS))('%s is explained by --help, option by option', async ([tool, { typed }]) => {
    const { exitCode, stdout } = await runCli([...typed.slice(0, 2), '--help']);
    expect(exitCode).toBe(0);
    const definition = tools.get(tool)!;
    const positional = tool === 'workflow_submit' ? ['steps'] : (definition.cli?.positional ?? []);
    for (const field of Object.keys(definition.input.shape)) {
      if (positional.includes(field)) continue;
      expect(stdout).toMatch(new RegExp(`--(no-)?${field.replaceAll('_', '-')}\\b`));
    }
  });
});

describe('wrong usage is exit code 2 and sends nothing', () => {
  it.for([
    [['peer', 'list', '--limit', 'many'], /--limit.*number/],
    [['peer', 'list', '--limit', '0'], /--limit/],
    [['peer', 'list', '--sort-by', 'size'], /last_seen, latency/],
    [['peer', 'lst'], /Did you mean list/],
    [['peers', 'list'], /Did you mean peer/],
    [['peer', 'list', '--limti', '3'], /Did you mean --limit/],
    [['peer'], /discover/],
    [['workflow', 'status'], /workflow_id/],
    [['workflow', 'status', 'no spaces allowed'], /<workflow_id>/],
    [['task', 'priority', 't', '--boost', '1', '--demote', '1'], /exactly one of --new-priority, --boost and --demote/],
    [['task', 'submit', 'echo', '--payload', '{oops'], /--payload.*JSON/],
    [['task', 'submit', 'echo', '--retry-policy', '{"max_retry":1}'], /--retry-policy.max_retry.*max_retries/],
    [
      ['workflow', 'submit', 'examples/diamond.yaml', '--workflow-id', 'my run'],
      /^.*--workflow-id: must be 1 to 128 characters/,
    ],
    [['task', 'answer', 't'], /exactly one of --approve and --reject/],
    [['worker', 'register', 'w'], /--capabilities/],
  ] satisfies [string[], RegExp][])('%s', async ([args, message]) => {
    const before = endpoint.calls.length;
    const { exitCode, stdout, stderr } = await runCli(
      [...args, '--url', endpoint.url].slice(0, args.length === 1 ? 1 : undefined),
    );
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(2);
    expect(stdout).toBe('');
    expect(endpoint.calls.length).toBe(before);
  });
});
