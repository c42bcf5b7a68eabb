/** Keys of callers as people handle them: made and ended by commands, at peers that run as they are started. */
import { afterEach, expect, it } from 'vitest';
import { PeerClient } from '../../node/cli/client.ts';
import { eventually } from '../harness/eventually.ts';
import { HostedPeer, type PeerHost } from '../harness/hosted-peers.ts';
import { LOOPBACK_ARGS, thisMachine } from '../harness/this-machine.ts';

const peers: HostedPeer<PeerHost>[] = [];
afterEach(async () => {
  await Promise.all(peers.splice(0).map((peer) => peer[Symbol.asyncDispose]()));
});

const ARGS = [...LOOPBACK_ARGS, '--auth'];

/** The code of what a key is told by a peer; `done` when it may. */
async function tried(peer: HostedPeer<PeerHost>, token: string | undefined, tool: string, input = {}): Promise<string> {
  const client = new PeerClient({ url: peer.record.http_url!, token });
  try {
    await client.call(tool, input);
    return 'done';
  } catch (error) {
    return (error as { code: string }).code;
  } finally {
    await client.close();
  }
}

it('a key is made, used, listed and ended at two peers, of which one was started anew', async () => {
  const founder = await HostedPeer.found(thisMachine('a'), ['ours'], ['--mesh', 'ours', ...ARGS]);
  peers.push(founder);
  const other = await HostedPeer.join(thisMachine('b'), await founder.text('mesh', 'invite'), ARGS);
  peers.push(other);

  const key = (await founder.text('key', 'create', 'ci', '--role', 'user', '--expires', '30d')).trim();
  expect(key).toMatch(/^fmk1_[\w-]{48}$/);
  const submit = { task_type: 'echo', payload: {} };
  expect(await tried(founder, key, 'task_submit', submit)).toBe('done');
  await eventually(
    'the other one knows the key',
    async () => (await tried(other, key, 'task_submit', submit)) === 'done',
  );
  expect(await tried(other, key, 'queue_clear', { confirm: true })).toBe('FORBIDDEN');
  expect(await tried(other, undefined, 'task_list')).toBe('TOKEN_REQUIRED');
  // The commands of the peer's own user need no key, and see everything.
  expect((await other.cli('task', 'list'))['total_count']).toBe(2);

  const listed = { name: 'ci', role: 'user', state: 'good', last_used_at: expect.any(String) };
  expect((await founder.cli('key', 'list'))['keys']).toEqual([expect.objectContaining(listed)]);
  await expect(other.text('key', 'create', 'mine')).rejects.toThrow(/NEEDS_ADMIN/);
  await expect(founder.text('key', 'create', 'ci')).rejects.toThrow(/KEY_EXISTS/);

  // The keys are in the peer's folder: it knows them from the first call on.
  await other.end();
  await other.start();
  expect(await tried(other, key, 'task_list')).toBe('done');

  expect(await founder.text('key', 'revoke', 'ci')).toContain('"ci" is no good any more');
  expect(await tried(founder, key, 'task_list')).toBe('TOKEN_REVOKED');
  await eventually(
    'the other one knows its end',
    async () => (await tried(other, key, 'task_list')) === 'TOKEN_REVOKED',
  );
});

it('in an open mesh, what there is instead of keys is said, and a key of the environment lets callers in', async () => {
  const peer = await HostedPeer.start(thisMachine('c'), ARGS);
  peers.push(peer);
  await expect(peer.text('key', 'create', 'ci')).rejects.toThrow(/NOT_SECURED.*flowmesh mesh init.*API_KEY/s);
  const key = 'a-key-of-the-environment-0123456789';
  const host = thisMachine('d');
  const withKey = {
    ...host,
    spawn: ((command, args, options) =>
      host.spawn(command, args, { ...options, env: { ...options?.env, API_KEY: key } })) as PeerHost['spawn'],
  };
  const keyed = await HostedPeer.start(withKey, ARGS);
  peers.push(keyed);
  expect([await tried(keyed, key, 'queue_stats'), await tried(keyed, `${key}x`, 'queue_stats')]).toEqual([
    'done',
    'TOKEN_INVALID',
  ]);
});
