/** The door of the program on a Node that is too old: it hands over to the bundled one and is otherwise not there. */
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, it } from 'vitest';
import { startEndpoint } from './mcp-endpoint.ts';
import { oldNode } from './old-node.ts';
import { runCli, startCli } from './run-cli.ts';

const ROOT = join(import.meta.dirname, '../..');
const BIN = join(ROOT, 'bin/flowmesh.js');

const old = oldNode();
const RUNNING = {
  success: true,
  workflow_id: 'w',
  name: 'w',
  status: 'running',
  progress: 0,
  steps_total: 1,
  steps_ended: 0,
};
const STEP = {
  step_id: 'a',
  action: 'echo',
  status: 'running',
  started_at: '2027-01-31T12:00:00Z',
  ended_at: null,
  tasks: 1,
  peers: null,
  error: null,
  reason: null,
};

describe.skipIf(old === undefined)('on an older Node', () => {
  const onOld = { node: old! };

  it('output and exit codes pass through', async () => {
    const version = await runCli(['--version'], {}, onOld);
    expect(version).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+$/), stderr: '' });
    const wrong = await runCli(['peer', 'lst'], {}, onOld);
    expect(wrong).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('Did you mean list') });
  });

  it('stdin passes through', async () => {
    const endpoint = await startEndpoint(() => ({ success: true, workflow_id: 'w' }));
    const input = 'name: piped\nsteps: [{ step_id: a, action: echo }]\n';
    await runCli(['workflow', 'submit', '-', '--url', endpoint.url], {}, { ...onOld, input });
    await endpoint.close();
    expect(endpoint.calls[0]!.input['name']).toBe('piped');
  });

  it('a signal reaches the command, and its exit code comes back', async () => {
    const endpoint = await startEndpoint(() => ({ ...RUNNING, steps: [STEP] }));
    const child = startCli(['workflow', 'status', 'w', '--watch', '--url', endpoint.url], {}, onOld);
    await new Promise((resolve) => child.stderr!.once('data', resolve));
    child.kill('SIGINT');
    const { exitCode, stderr } = await child;
    await endpoint.close();
    expect(exitCode).toBe(130);
    expect(stderr).toContain('Come back with');
  });

  it('kill -9 of the one in front ends the other too', async () => {
    const endpoint = await startEndpoint(() => ({ ...RUNNING, steps: [STEP] }));
    const child = startCli(['workflow', 'status', 'w', '--watch', '--url', endpoint.url], {}, onOld);
    await new Promise((resolve) => child.stderr!.once('data', resolve));
    // The pipe ends when the last process that holds it is gone.
    const gone = once(child.stderr!, 'end');
    child.stderr!.resume();
    child.kill('SIGKILL');
    await gone;
    await child;
    await endpoint.close();
  });

  it('`node start` in a checkout is `flowmesh node start`', async () => {
    const { stdout, exitCode } = await execa(old!, ['start', '--help'], { cwd: ROOT });
    expect(exitCode).toBe(0);
    expect(stdout).toContain('flowmesh node start');
    const wrong = await execa(old!, ['start', '--bootstrap', '--runtime', 'inlin'], { cwd: ROOT, reject: false });
    expect(wrong.exitCode).toBe(2);
    expect(wrong.stderr).toContain('did you mean "inline"?');
  });

  it('without a bundled Node it says what is needed', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'flowmesh-alone-'));
    await mkdir(join(folder, 'bin'));
    await writeFile(join(folder, 'package.json'), '{"type":"module"}');
    await copyFile(BIN, join(folder, 'bin', 'flowmesh.js'));
    const { exitCode, stderr } = await execa(old!, [join(folder, 'bin', 'flowmesh.js')], { reject: false });
    await rm(folder, { recursive: true });
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/needs Node\.js 24 or later/);
  });
});

describe('installed as a package', () => {
  it('the build is used, since Node strips no types below node_modules', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'flowmesh-installed-'));
    const root = join(folder, 'node_modules', 'flowmesh');
    await mkdir(join(root, 'bin'), { recursive: true });
    await mkdir(join(root, 'dist'));
    await writeFile(join(root, 'package.json'), '{"type":"module"}');
    await copyFile(BIN, join(root, 'bin', 'flowmesh.js'));
    await writeFile(join(root, 'dist', 'main.js'), 'console.log("built", ...process.argv.slice(2));');
    const { stdout } = await execa(process.execPath, [join(root, 'bin', 'flowmesh.js'), 'peer', 'list']);
    await rm(folder, { recursive: true });
    expect(stdout).toBe('built peer list');
  });
});

it('a checkout without its libraries says how to get them, in place of a stack', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'flowmesh-bare-'));
  await mkdir(join(folder, 'bin'));
  await mkdir(join(folder, 'node/cli'), { recursive: true });
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  await copyFile(BIN, join(folder, 'bin/flowmesh.js'));
  await writeFile(join(folder, 'node/cli/main.ts'), "import 'commander';");
  const { exitCode, stderr } = await execa(process.execPath, [join(folder, 'bin/flowmesh.js')], { reject: false });
  await rm(folder, { recursive: true });
  expect(exitCode).toBe(1);
  expect(stderr).toContain(`npm install --include=dev --prefix "${folder}"`);
  expect(stderr).not.toContain('    at ');
});
