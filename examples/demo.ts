/**
 * `npm run demo`: three peers as processes of their own make a mesh on this machine, count the words of this project's
 * sources together, and are gone again. Nothing is left behind, however it ends.
 *
 * What it shows: peers that find each other, a workflow submitted to one of them over MCP, its steps run by all of
 * them, and the same result from any of them. The peers are spoken to as any MCP client speaks to them.
 */
import assert from 'node:assert/strict';
import { isAscii } from 'node:buffer';
import { glob, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { styleText } from 'node:util';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import Table from 'cli-table3';
import logUpdate from 'log-update';
import { runningPeer } from '../node/data-folder.ts';

const ROOT = join(import.meta.dirname, '..');
const FOLDERS = ['dag', 'scheduler', 'tools', 'node'];
const DEMO_MS_MAX = 60_000;
const POLL_MS = 40;
const SIGNAL_EXIT_CODE = 130;

interface Peer {
  name: string;
  peer_id: string;
  client: Client;
  addresses: string[];
}
/** The parts of `workflow_status` and `task_list` that are shown. */
type Run = { status: string; error: { message: string } | null; steps: { step_id: string; status: string }[] };
type Task = { step_id: string; status: string; peer_id: string | null };
type Counted = Record<string, { total: number; longest: string; files: { file: string; words: number }[] }>;

/** Aborted by a signal, by a peer that ends before its time, and when it takes too long. */
const stop = new AbortController();

async function demo(cleanup: AsyncDisposableStack): Promise<void> {
  say('bold', 'flowmesh: three peers, one workflow');
  const home = await mkdtemp(join(tmpdir(), 'flowmesh-demo-'));
  cleanup.defer(() => rm(home, { recursive: true, force: true, maxRetries: 5 }));

  say('dim', `\nStarting three peers, each a process of its own, in ${home}`);
  const ada = await startPeer('ada', home, [], cleanup);
  const others = await Promise.all(['ben', 'cleo'].map((name) => startPeer(name, home, ada.addresses, cleanup)));
  const peers = [ada, ...others];
  await until(async () => {
    const { peers: seen } = await call(ada, 'peer_list', { capability_filter: ['shell', 'fn:sum_words'] });
    return (seen as unknown[]).length === others.length;
  });

  const texts = await readTexts();
  const files = Object.values(texts).flatMap(Object.keys);
  say('dim', `\nSubmitting a workflow to ada: count the words of ${files.length} files, by folder, and add them up`);
  const { workflow_id } = await call(ada, 'workflow_submit', countWords(texts));
  const tasks = await watch(ada, workflow_id as string, peers);

  const { result } = (await call(ada, 'workflow_result', { workflow_id })) as { result: Counted };
  say('dim', '\nThe result');
  console.log(resultTable(result));
  assert.deepEqual(result, countHere(texts), 'the mesh counted something else than this process did');
  check(`counted again by this process: the same, file by file`);
  const cleo = await call(others[1]!, 'workflow_result', { workflow_id });
  assert.deepEqual(cleo['result'], result, 'cleo has another result than ada');
  check('cleo was asked for it too: the same');
  const shares = peers.map(({ name, peer_id }) => {
    const own = tasks.filter((task) => task.peer_id === peer_id);
    return `${name} ${own.length} tasks of ${new Set(own.map(({ step_id }) => step_id)).size} steps`;
  });
  assert(shares.filter((share) => !share.includes(' 0 tasks')).length > 1, `one peer did it all: ${shares}`);
  check(`who ran what: ${shares.join(', ')}`);
}

/** One peer, spoken to over its stdin and stdout: it stops when they close, so it cannot outlive this process. */
async function startPeer(name: string, home: string, known: string[], cleanup: AsyncDisposableStack): Promise<Peer> {
  const data_dir = join(home, name);
  const place = ['--mesh', 'demo', '--name', name, '--data-dir', data_dir, '--listen', '/ip4/127.0.0.1/tcp/0'];
  const work = ['--allow-shell', 'wc', '--functions', 'examples/functions.ts', '--http-port', '0'];
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: ['bin/flowmesh.js', 'node', 'start', '--stdio', ...place, ...work, ...known.flatMap((a) => ['--join', a])],
    cwd: ROOT,
    env: { FLOWMESH_HOME: home },
    stderr: 'pipe',
  });
  let lastWords = '';
  transport.stderr!.on('data', (chunk) => {
    lastWords = (lastWords + chunk).slice(-2_000);
  });
  const client = new Client({ name: 'flowmesh-demo', version: '1.0.0' });
  client.onclose = () => stop.abort(new Error(`${name} ended before its time. It said:\n${lastWords}`));
  cleanup.defer(() => {
    client.onclose = () => {};
    return client.close();
  });
  await client.connect(transport, { signal: stop.signal });
  const { pid, peer_id, http_url, addresses } = (await runningPeer(data_dir))!;
  console.log(`  ${name.padEnd(5)} process ${pid}  ${http_url}/mcp  ${styleText('dim', peer_id!)}`);
  return { name, peer_id: peer_id!, client, addresses };
}

/** @throws Error with the tool's own message when it says `success: false` */
async function call(peer: Peer, tool: string, input: object): Promise<Record<string, unknown>> {
  const options = { signal: stop.signal };
  const result = await peer.client.callTool({ name: tool, arguments: { ...input } }, undefined, options);
  const output = result.structuredContent as { success: boolean; error?: { message: string } };
  if (!output.success) throw new Error(`${tool} at ${peer.name}: ${output.error?.message}`);
  return output;
}

/** By folder: for each file its text. Plain ASCII only: elsewhere the locale decides what `wc` takes for a word. */
async function readTexts(): Promise<Record<string, Record<string, string>>> {
  const texts: Record<string, Record<string, string>> = {};
  for (const folder of FOLDERS) {
    const own: Record<string, string> = {};
    for (const file of (await Array.fromAsync(glob(`${folder}/**/*.ts`, { cwd: ROOT }))).sort()) {
      const bytes = await readFile(join(ROOT, file));
      if (isAscii(bytes)) own[file] = bytes.toString();
    }
    texts[folder] = own;
  }
  return texts;
}

/** For each folder a step that runs `wc` once per file and one that adds up; at the end one that joins them. */
function countWords(texts: Record<string, Record<string, string>>): object {
  const count = Object.entries(texts).map(([folder, own]) => ({
    step_id: `count_${folder}`,
    action: 'shell',
    foreach: Object.keys(own),
    inputs: { command: ['wc', '-w', '${ item }'] },
    retry: { max_retries: 2 },
  }));
  const sum = FOLDERS.map((folder) => ({
    step_id: `sum_${folder}`,
    action: 'fn:sum_words',
    depends_on: [`count_${folder}`],
    inputs: { lines: `\${ steps.count_${folder}.output.stdout[] }` },
  }));
  const output = Object.fromEntries(FOLDERS.map((folder) => [folder, `\${ steps.sum_${folder}.output }`]));
  const join = { step_id: 'join', action: 'echo', depends_on: sum.map(({ step_id }) => step_id), inputs: output };
  return { name: 'count-words', steps: [...count, ...sum, join], output: '${ steps.join.output }' };
}

/** Shows the run until it has ended: redrawn in a terminal, elsewhere a line for each step that starts or ends. */
async function watch(peer: Peer, workflow_id: string, peers: Peer[]): Promise<Task[]> {
  const shown = new Set<string>();
  for (;;) {
    const run = (await call(peer, 'workflow_status', { workflow_id })) as unknown as Run;
    const { tasks } = (await call(peer, 'task_list', { limit: 1_000 })) as unknown as { tasks: Task[] };
    const lines = [
      styleText('dim', `  ${'step'.padEnd(18)}done${peers.map(({ name }) => name.padStart(8)).join('')}`),
      ...run.steps.map((step) => stepLine(step, tasks, peers)),
    ];
    if (process.stdout.isTTY) logUpdate(lines.join('\n'));
    for (const [index, step] of run.steps.entries()) {
      const key = `${step.step_id} ${step.status}`;
      if (process.stdout.isTTY || step.status === 'pending' || shown.has(key)) continue;
      shown.add(key);
      console.log(lines[index + 1]);
    }
    if (['completed', 'failed', 'cancelled'].includes(run.status)) {
      logUpdate.done();
      assert.equal(run.status, 'completed', run.error?.message);
      return tasks;
    }
    await delay(POLL_MS, undefined, { signal: stop.signal });
  }
}
