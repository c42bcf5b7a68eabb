/** On a machine whose own Node is too old: the two ways in which the README starts a peer, and the commands beside it. */
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { execa, type Options } from 'execa';
import { describe, expect, it } from 'vitest';
import { oldNode } from '../cli/old-node.ts';
import { temporaryFolder } from './temporary-folder.ts';

const ROOT = join(import.meta.dirname, '../..');
const old = oldNode();
const BIN = old === undefined ? '' : dirname(old);

describe.skipIf(old === undefined)('where the Node of the system is too old (skipped where it is not)', () => {
  it.each([
    ['node start --bootstrap', join(BIN, 'node'), ['start', '--bootstrap']],
    ['npx flowmesh node start --bootstrap', join(BIN, 'npx'), ['flowmesh', 'node', 'start', '--bootstrap']],
  ])('`%s` starts a peer, `npx flowmesh` talks to it, Ctrl-C stops it', async (_shown, file, args) => {
    await using folder = await temporaryFolder();
    const options = {
      cwd: ROOT,
      extendEnv: false,
      reject: false,
      stdin: 'ignore',
      env: {
        PATH: `${BIN}:/usr/bin:/bin`,
        HOME: folder.path,
        FLOWMESH_HOME: folder.path,
        FLOWMESH_HTTP_PORT: '0',
        FLOWMESH_LISTEN: '/ip4/127.0.0.1/tcp/0',
        npm_config_update_notifier: 'false',
      },
    } satisfies Options;
    // A group of its own, as a terminal gives it: Ctrl-C reaches npx, its shell and the peer.
    const started = execa(file, args, { ...options, stdout: 'ignore', killDescendants: true });
    try {
      for await (const line of createInterface({ input: started.stderr })) if (/"msg":"ready"/.test(line)) break;
      started.stderr.resume();
      const status = await execa(join(BIN, 'npx'), ['flowmesh', 'node', 'status', '--json'], options);
      expect(status.exitCode, status.stderr).toBe(0);
      expect(JSON.parse(status.stdout)).toMatchObject({ ready: true, mesh: 'default' });
      process.kill(-started.pid!, 'SIGINT');
      const { stderr } = await started;
      expect(stderr).toContain('stopping');
      const gone = await execa(join(BIN, 'npx'), ['flowmesh', 'node', 'status'], options);
      expect(gone.exitCode).toBe(3);
    } catch (error) {
      started.kill('SIGKILL');
      throw error;
    }
  });
});
