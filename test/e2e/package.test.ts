/** What `npm pack` makes is a program: it is installed as a user installs it, and runs from there. */
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { oldNode } from '../cli/old-node.ts';
import { temporaryFolder } from './temporary-folder.ts';

const ROOT = join(import.meta.dirname, '../..');
const PACKED_BYTES_MAX = 3_000_000;

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let tarball: string;
let prefix: string;
/** The installed program, as a file that any Node can be given. */
let program: string;

/** @param node the one to run on; default: that of the tests */
function run(file: string, args: string[], node = process.execPath) {
  const env = {
    PATH: `${dirname(node)}:/usr/bin:/bin`,
    HOME: process.env['HOME']!,
    TMPDIR: folder.path,
    FLOWMESH_HOME: join(folder.path, 'home'),
    npm_config_update_notifier: 'false',
  };
  return execa(file, args, { cwd: folder.path, extendEnv: false, reject: false, stdin: 'ignore', env });
}

beforeAll(async () => {
  folder = await temporaryFolder();
  const packed = await execa('npm', ['pack', '--pack-destination', folder.path], { cwd: ROOT, stdin: 'ignore' });
  const [name] = (await readdir(folder.path)).filter((each) => each.endsWith('.tgz'));
  expect(name, packed.stderr).toBeDefined();
  tarball = join(folder.path, name!);
  prefix = join(folder.path, 'prefix');
  const args = ['install', '--global', '--prefix', prefix, '--prefer-offline', '--no-audit', '--no-fund', tarball];
  await execa('npm', args, { cwd: folder.path, stdin: 'ignore' });
  program = join(prefix, 'lib', 'node_modules', 'flowmesh', 'bin', 'flowmesh.js');
});
afterAll(() => folder[Symbol.asyncDispose]());

describe('the package', () => {
  it('holds what runs, with its types and source maps, and nothing else', async () => {
    const { stdout } = await execa('tar', ['-tzf', tarball]);
    const files = stdout.split('\n').map((file) => file.replace(/^package\//, ''));
    const built = files.filter((file) => /^dist\/([^/]+\.js(\.map)?|types\/.*\.d\.ts)$/.test(file));
    const others = files.filter((file) => !built.includes(file) && file !== 'LICENSE');
    const along = ['README.md', 'bin/flowmesh.js', 'bootstrap.json', 'dist/LICENSES.txt', 'package.json'];
    expect(others.sort()).toEqual(along);
    for (const file of ['main.js', 'main.js.map', 'mesh-thread.js']) expect(built).toContain(`dist/${file}`);
    expect((await stat(tarball)).size).toBeLessThan(PACKED_BYTES_MAX);
  });

  it('has the types of what a module of functions is given', async () => {
    const { exports } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as {
      exports: Record<string, { types: string }>;
    };
    const types = await readFile(join(dirname(program), '..', exports['./functions']!.types), 'utf8');
    expect(types).toContain('export type FunctionHandler');
  });
});

describe('installed into a prefix', () => {
  it('`flowmesh` answers', async () => {
    const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    const { stdout, stderr, exitCode } = await run(join(prefix, 'bin', 'flowmesh'), ['--version']);
    expect({ stdout, stderr, exitCode }).toEqual({ stdout: version, stderr: '', exitCode: 0 });
  });

  it("runs the demo's workflow on three peers", async () => {
    const demo = await execa(process.execPath, ['examples/demo.ts', program], { cwd: ROOT, reject: false });
    expect(demo.exitCode, demo.stderr).toBe(0);
    expect(demo.stdout).toContain('right: this process counted the same words');
  });

  it('says what is missing where it was not built, in place of a stack', async () => {
    const dist = join(dirname(program), '..', 'dist');
    await execa('mv', [dist, `${dist}.away`]);
    try {
      const { exitCode, stderr } = await run(process.execPath, [program, '--version']);
      expect(exitCode).toBe(1);
      expect(stderr).toContain('has not been built');
      expect(stderr).not.toContain('    at ');
    } finally {
      await execa('mv', [`${dist}.away`, dist]);
    }
  });

  const old = oldNode();
  it.skipIf(old === undefined)(
    'says on an older Node which one it needs, and one command that gets it (skipped where there is none)',
    async () => {
      const refused = await run(old!, [program, '--version']);
      expect(refused.exitCode).toBe(1);
      expect(refused.stderr).toContain('needs Node.js 24 or later');
      const [command] = /npm install .*/.exec(refused.stderr) ?? [];
      await execa('sh', ['-c', `${command} --prefer-offline`], { cwd: folder.path, stdin: 'ignore' });
      expect(await run(old!, [program, '--version'])).toMatchObject({ exitCode: 0, stderr: '' });
      await rm(join(prefix, 'lib', 'node_modules', 'node'), { recursive: true });
    },
  );
});

it('`npx flowmesh` of the package runs without an installation', async () => {
  const args = ['--yes', '--prefer-offline', '--package', tarball, 'flowmesh', 'node', 'status'];
  const { exitCode, stderr } = await run('npx', args);
  expect(stderr).toContain('NO_PEER');
  expect(exitCode).toBe(3);
});
