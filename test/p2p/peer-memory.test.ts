/** What libp2p remembers: the datastore that it expects, kept over a restart, never in the way. */
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Key } from 'interface-datastore/key';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openPeerMemory, type PeerMemory } from '../../node/p2p/peer-memory.ts';
import type { Log } from '../../scheduler/ports.ts';
import { quietLog } from '../executors/recorded-io.ts';

let folder: string;
let memory: PeerMemory;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowmesh-memory-'));
  memory = await openPeerMemory(folder, quietLog);
});
afterEach(async () => {
  memory.close();
  await rm(folder, { recursive: true });
});

const bytes = (text: string) => new Uint8Array(Buffer.from(text));

async function keysOf(prefix?: string): Promise<string[]> {
  const found: string[] = [];
  for await (const key of memory.queryKeys(prefix === undefined ? {} : { prefix })) found.push(key.toString());
  return found.sort();
}

it('gives back what was put, the last value of each key', async () => {
  memory.put(new Key('/peers/a'), bytes('one'));
  memory.put(new Key('/peers/a'), bytes('two'));
  expect(memory.get(new Key('/peers/a'))).toEqual(bytes('two'));
  expect(memory.has(new Key('/peers/a'))).toBe(true);
  memory.delete(new Key('/peers/a'));
  expect(memory.has(new Key('/peers/a'))).toBe(false);
  expect(() => memory.get(new Key('/peers/a'))).toThrow(expect.objectContaining({ name: 'NotFoundError' }));
});

it('finds what begins alike, whatever letters follow', async () => {
  const batch = memory.batch();
  for (const key of ['/peers/a', '/peers/zürich', '/peers/\u{1f600}', '/dht/a', '/peersonal']) {
    batch.put(new Key(key), bytes(key));
  }
  await batch.commit();
  expect(await keysOf('/peers/')).toEqual(['/peers/a', '/peers/zürich', '/peers/\u{1f600}']);
  expect(await keysOf()).toHaveLength(5);
  const pairs: string[] = [];
  for await (const { value } of memory.query({ prefix: '/dht' })) pairs.push(Buffer.from(value).toString());
  expect(pairs).toEqual(['/dht/a']);
});

it('what is written while a query runs does not disturb it', async () => {
  for (let n = 0; n < 10; n++) memory.put(new Key(`/peers/${n}`), bytes('x'));
  const seen: string[] = [];
  for await (const key of memory.queryKeys({ prefix: '/peers' })) {
    seen.push(key.toString());
    memory.delete(key);
    memory.put(new Key(`/peers/${key.baseNamespace()}/again`), bytes('y'));
  }
  expect(seen).toHaveLength(10);
});

it('is there again after a restart, and in use by one at a time', async () => {
  memory.put(new Key('/peers/a'), bytes('kept'));
  await expect(openPeerMemory(folder, quietLog)).rejects.toMatchObject({ code: 'DATA_FOLDER_IN_USE' });
  memory.close();
  memory = await openPeerMemory(folder, quietLog);
  expect(memory.get(new Key('/peers/a'))).toEqual(bytes('kept'));
});

it('a write that fails is told once and forgotten', async () => {
  memory.close();
  const warnings: string[] = [];
  const log: Log = { ...quietLog, warn: (_fields, message) => warnings.push(message) };
  const closed = await openPeerMemory(folder, log);
  closed.close();
  closed.put(new Key('/peers/a'), bytes('lost'));
  closed.delete(new Key('/peers/a'));
  expect(warnings).toEqual([expect.stringContaining('cannot be written; it is forgotten')]);
});

it('takes the place of the folder that earlier versions had', async () => {
  memory.close();
  await mkdir(join(folder, 'libp2p'));
  await writeFile(join(folder, 'libp2p', 'CURRENT'), 'MANIFEST-000002\n');
  memory = await openPeerMemory(folder, quietLog);
  await expect(stat(join(folder, 'libp2p'))).rejects.toMatchObject({ code: 'ENOENT' });
});
