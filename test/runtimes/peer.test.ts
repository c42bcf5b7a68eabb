import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { configSchema, RUNTIMES } from '../../node/config/settings.ts';
import { silentLog } from '../../node/log.ts';
import { startPeer } from '../../node/peer.ts';
import { closeAll } from '../../node/runtimes/closing.ts';
import { testLog } from '../harness/log.ts';

const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'flowmesh-peer-'));
  closing.push(() => rm(path, { recursive: true, force: true }));
  return path;
}

describe.each(RUNTIMES)('a peer with the %s runtime', (runtime) => {
  it('is ready when it has started, and refuses calls after it has stopped', async () => {
    const data_dir = await folder();
    const config = configSchema.parse({ data_dir, runtime });
    const peer = await startPeer(config, testLog('peer'));
    const ready = await fetch(`${peer.http_url}/ready`);
    expect(await ready.json()).toMatchObject({ ready: true, peer_id: peer.peer_id, connected_peers: 0 });
    expect((await peer.router.status()).runtime).toBe(runtime);
    await Promise.all([peer.stop(), peer.stop()]);
    await expect(fetch(`${peer.http_url}/ready`)).rejects.toThrow();
    await expect(peer.router.call('queue_stats', {})).rejects.toMatchObject({ code: 'PEER_STOPPED' });

    const again = await startPeer(config, testLog('peer'));
    closing.push(() => again.stop());
    expect(again.peer_id).toBe(peer.peer_id);
  });

  it('whose HTTP port is taken does not start, and leaves its folder and addresses free', async () => {
    const data_dir = await folder();
    const taken = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    closing.push(() => taken.close());
    const { port } = taken.address() as { port: number };
    const config = configSchema.parse({ data_dir, runtime, http: { port } });
    await expect(startPeer(config, testLog('peer'))).rejects.toMatchObject({ code: 'PORT_IN_USE' });
    const peer = await startPeer({ ...config, http: null }, testLog('peer'));
    closing.push(() => peer.stop());
    expect(peer.http_url).toBeNull();
  });

  it('whose libp2p address is taken does not start', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    closing.push(() => taken.close());
    const { port } = taken.address() as { port: number };
    const config = configSchema.parse({ data_dir: await folder(), runtime, listen: [`/ip4/127.0.0.1/tcp/${port}`] });
    await expect(startPeer(config, testLog('peer'))).rejects.toMatchObject({ code: 'CANNOT_LISTEN' });
  });
});

it('closing goes on after a part that fails or hangs, and names both', async () => {
  const closed: string[] = [];
  const parts = [
    { part: 'first', close: () => closed.push('first') },
    { part: 'failing', close: () => Promise.reject(new Error('jammed')) },
    { part: 'hanging', close: () => new Promise(() => {}), deadlineMs: 10 },
    { part: 'last', close: async () => closed.push('last') },
  ];
  await expect(closeAll(parts, silentLog)).rejects.toMatchObject({
    code: 'CLOSE_FAILED',
    message: expect.stringMatching(/failing \(jammed\), hanging \(not closed within 10 ms\)/),
  });
  expect(closed).toEqual(['first', 'last']);
});
