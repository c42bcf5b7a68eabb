/** A peer that is killed cannot end its processes: they see for themselves that it is gone. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { childPids, waitUntilGone } from './processes.ts';

it('leaves no process behind when the peer is killed, though their code never yields', async () => {
  const peer = fork(join(import.meta.dirname, 'killed-peer.ts'));
  try {
    await once(peer, 'message');
    const children = await childPids(peer.pid!);
    expect(children).toHaveLength(2);
    peer.kill('SIGKILL');
    await once(peer, 'exit');
    await waitUntilGone(children);
  } finally {
    peer.kill('SIGKILL');
  }
});
