import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { unitOf } from '../../node/cli/service.ts';

const FLAGS = {
  'shell.allow': ['git', 'wc'],
  'worker.slots': '2',
  gossip: false,
  'worker.labels': ['50% "busy" $HOME'],
};

const systemd = (() => {
  try {
    execFileSync('systemd-analyze', ['--version'], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
})();

describe('the service of a peer', () => {
  const unit = unitOf({ mesh: 'home', dataDir: '/var/lib/a b', flags: FLAGS }, [process.execPath, '/opt/flowmesh.js']);

  it('starts the peer with what the join was given', () => {
    const line = unit.split('\n').find((each) => each.startsWith('ExecStart='))!;
    expect(line).toContain(`${process.execPath} /opt/flowmesh.js node start --mesh home --data-dir "/var/lib/a b"`);
    expect(line).toContain('--allow-shell git wc');
    expect(line).toContain('--slots 2');
    expect(line).toContain('--no-gossip');
  });

  it('gives systemd no word that it would read as something else', () => {
    expect(unit).toContain('"50%% \\"busy\\" $$HOME"');
  });

  it.skipIf(!systemd)(`is one that systemd accepts${systemd ? '' : ' (skipped: no systemd-analyze)'}`, () => {
    const folder = mkdtempSync(join(tmpdir(), 'flowmesh-unit-'));
    const file = join(folder, 'flowmesh-home.service');
    writeFileSync(file, unit);
    try {
      // It complains of what it would ignore, too.
      const { stderr, status } = spawnSync('systemd-analyze', ['--user', 'verify', file], {
        encoding: 'utf8',
        env: { ...process.env, XDG_RUNTIME_DIR: folder },
      });
      expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
