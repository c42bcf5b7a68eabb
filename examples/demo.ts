/**
 * `npm run demo [-- <an installed flowmesh.js>]`: three peers, each a process of its own, make a mesh on this machine, count the words of this
 * project's sources together, and are gone again. Nothing is left behind, however it ends.
 *
 * The peers are started and spoken to as an MCP client does it, over their stdin and stdout: a peer ends when they
 * close, so none can outlive this process.
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
const PROGRAM = process.argv[2] ?? 'bin/flowmesh.js';
const FOLDERS = ['dag', 'scheduler', 'tools', 'node'];
const DEMO_MS_MAX = 90_000;
const POLL_MS = 40;
const EXIT_INTERRUPTED = 130;

/** What happens to the demo: Ctrl-C, a peer that ends before its time, no end at all. */
const mishap = Promise.withResolvers<never>();
/** A client for each peer that was started. */
const clients: Client[] = [];

async function demo(home: string): Promise<void> {
  headline(`Three peers, each a process of its own, in ${home}`);
  const ada = await startPeer('ada', home, []);
  const [ben, cleo] = await Promise.all([
    startPeer('ben', home, ada.addresses),
    startPeer('cleo', home, ada.addresses),
  ]);
  while ((await ada.call('peer_list', { capability_filter: ['shell', 'fn:sum_words'] })).total_count < 2) await pause();

  const sources = await readSources();
  const count = sources.reduce((sum, { files }) => sum + files.length, 0);
  headline(`A workflow for ada: count the words of ${count} files, one wc each, and add them up`);
  const { workflow_id } = await ada.call('workflow_submit', wordsByFolder(sources));
  const tasks = await watch(ada, workflow_id, [ada, ben, cleo]);

  const { result, execution_time_ms } = await ada.call('workflow_result', { workflow_id });
  headline(`The result, after ${(execution_time_ms / 1_000).toFixed(1)} s`);
  const table = new Table({
    head: ['folder', 'files', 'words', 'counted here'],
    colAligns: ['left', 'right', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  });
  for (const { folder, files, words } of sources) table.push([folder, files.length, result[folder], words]);
  console.log(`${table}\n`);
  for (const { folder, words } of sources) assert.equal(result[folder], words, `the words of ${folder}`);
  tick('right: this process counted the same words');
  assert.deepEqual((await cleo.call('workflow_result', { workflow_id })).result, result);
  tick('cleo, asked for the result of the workflow that ada took, gives the same');
  const shares = [ada, ben, cleo].map(({ name, peer_id }) => {
    const own = tasks.filter((task) => task.peer_id === peer_id);
    return { name, tasks: own.length, steps: new Set(own.map(({ step_id }) => step_id)).size };
  });
  assert.ok(shares.filter((share) => share.tasks > 0).length > 1, 'one peer ran everything');
  for (const { name, tasks, steps } of shares) tick(`${name} ran ${tasks} tasks of ${steps} steps`);
}

/** @param known addresses of peers of the mesh; none for the first */
async function startPeer(name: string, home: string, known: string[]) {
  const data_dir = join(home, name);
  const place = ['--mesh', 'demo', '--name', name, '--data-dir', data_dir, '--http-port', '0'];
  const network = ['--listen', '/ip4/127.0.0.1/tcp/0', ...known.flatMap((address) => ['--join', address])];
  const work = ['--allow-shell', 'wc', '--functions', 'examples/functions.ts'];
  const args = [PROGRAM, 'node', 'start', '--stdio', ...place, ...network, ...work];
  const env = { FLOWMESH_HOME: home };
  const transport = new StdioClientTransport({ command: process.execPath, args, cwd: ROOT, env, stderr: 'pipe' });
  let lastWords = '';
  transport.stderr?.on('data', (chunk) => {
    lastWords = (lastWords + chunk).slice(-2_000);
  });
  const client = new Client({ name: 'flowmesh-demo', version: '1.0.0' });
  client.onclose = () => mishap.reject(new Error(`${name} ended before its time. Its last words:\n${lastWords}`));
  clients.push(client);
  await client.connect(transport);
  // It has greeted; the peer behind it may still be starting.
  let record = await runningPeer(data_dir);
  for (; typeof record?.peer_id !== 'string'; record = await runningPeer(data_dir)) await pause();
  const { pid, peer_id, http_url, addresses } = record;
  console.log(`  ${name.padEnd(5)} process ${pid}  ${http_url}/mcp  ${styleText('dim', peer_id)}`);

  /** @throws Error with the tool's own message when it failed */
  const call = async (tool: string, input: Record<string, unknown>) => {
    const { structuredContent } = await client.callTool({ name: tool, arguments: input });
    // biome-ignore lint/suspicious/noExplicitAny: what each tool answers is in docs/tools.md
    const output = structuredContent as any;
    assert.ok(output.success, `${tool} at ${name}: ${output.error?.message}`);
    return output;
  };
  return { name, peer_id, addresses, call };
}
type Peer = Awaited<ReturnType<typeof startPeer>>;

/** The files to count, and what is to come out. ASCII only: elsewhere the locale decides what a word is to wc. */
async function readSources() {
  const sources: { folder: string; files: string[]; words: number }[] = [];
  for (const folder of FOLDERS) {
    const source = { folder, files: [] as string[], words: 0 };
    for await (const file of glob(`${folder}/**/*.ts`, { cwd: ROOT })) {
      const bytes = await readFile(join(ROOT, file));
      if (!isAscii(bytes)) continue;
      source.files.push(file);
      source.words += bytes.toString().match(/\S+/g)?.length ?? 0;
    }
    sources.push(source);
  }
  return sources;
}

/** For each folder a step that runs wc once per file and a step that adds up; a last one that puts them together. */
function wordsByFolder(sources: { folder: string; files: string[] }[]) {
  const steps = sources.flatMap(({ folder, files }) => [
    { step_id: `count_${folder}`, action: 'shell', foreach: files, inputs: { command: ['wc', '-w', '${ item }'] } },
    {
      step_id: `sum_${folder}`,
      action: 'fn:sum_words',
      depends_on: [`count_${folder}`],
      inputs: { lines: `\${ steps.count_${folder}.output.stdout[] }` },
    },
  ]);
  const depends_on = sources.map(({ folder }) => `sum_${folder}`);
  const totals = sources.map(({ folder }) => [folder, `\${ steps.sum_${folder}.output.total }`]);
  const report = { step_id: 'report', action: 'echo', depends_on, inputs: Object.fromEntries(totals) };
  return { name: 'words-by-folder', steps: [...steps, report], output: '${ steps.report.output }' };
}

/** Shows the run until it ends: redrawn in a terminal, elsewhere a line when a step starts or ends. */
async function watch(ada: Peer, workflow_id: string, peers: Peer[]): Promise<Task[]> {
  const shown = new Map<string, string>();
  const columns = (cells: (string | number)[]) => cells.map((each) => String(each).padStart(6)).join('');
  const header = styleText('dim', `    step                tasks${columns(peers.map(({ name }) => name))}`);
  if (!process.stdout.isTTY) console.log(header);
  for (;;) {
    const { status, error, steps } = await ada.call('workflow_status', { workflow_id });
    const { tasks }: { tasks: Task[] } = await ada.call('task_list', { workflow_filter: workflow_id, limit: 1_000 });
    const lines = steps.map((step: { step_id: string; status: string }) => {
      const own = tasks.filter(({ step_id }) => step_id === step.step_id);
      const done = own.filter((task) => task.status === 'completed').length;
      const counts = peers.map(({ peer_id }) => own.filter((task) => task.peer_id === peer_id).length || '·');
      const line = `  ${MARKS[step.status] ?? '✘'} ${step.step_id.padEnd(16)}${`${done}/${own.length}`.padStart(9)}${columns(counts)}`;
      if (!process.stdout.isTTY && step.status !== (shown.get(step.step_id) ?? 'pending')) console.log(line);
      shown.set(step.step_id, step.status);
      return line;
    });
    if (process.stdout.isTTY) logUpdate([header, ...lines].join('\n'));
    if (status === 'completed') {
      logUpdate.done();
      return tasks;
    }
    assert.ok(['submitted', 'running'].includes(status), `the workflow ${status}: ${error?.message}`);
    await pause();
  }
}

interface Task {
  step_id: string;
  status: string;
  peer_id: string | null;
}

const MARKS: Record<string, string> = {
  pending: styleText('dim', '·'),
  running: styleText('cyan', '▸'),
  completed: styleText('green', '✔'),
};

const headline = (text: string) => console.log(`\n${styleText('bold', text)}`);
const tick = (text: string) => console.log(`  ${styleText('green', '✔')} ${text}`);
const pause = () => delay(POLL_MS);

class Interrupted extends Error {}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => mishap.reject(new Interrupted(`stopped by ${signal}`)));
}
const late = setTimeout(() => mishap.reject(new Error(`no end after ${DEMO_MS_MAX} ms`)), DEMO_MS_MAX);
const home = await mkdtemp(join(tmpdir(), 'flowmesh-demo-'));
try {
  await Promise.race([demo(home), mishap.promise]);
} catch (error) {
  logUpdate.done();
  process.exitCode = error instanceof Interrupted ? EXIT_INTERRUPTED : 1;
  console.error(
    styleText('red', `\nThe demo did not end well: ${(error as Error).message}`, { stream: process.stderr }),
  );
} finally {
  clearTimeout(late);
  await Promise.allSettled(clients.map((client) => client.close()));
  await rm(home, { recursive: true, force: true, maxRetries: 5 });
  tick(`nothing is left: the processes have ended, ${home} is removed`);
}
