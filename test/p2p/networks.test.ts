/** Peers in several networks: behind home routers, and on the move. */
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Relaying } from '../../node/p2p/relay.ts';
import type { ConnectionInfo } from '../../tools/peers.ts';
import { eventually } from '../harness/eventually.ts';
import { type Host, Internet, NO_NAMESPACES, skipNote } from '../harness/namespaces.ts';
import type { Command } from './network-process.ts';

const PROGRAM = join(import.meta.dirname, 'network-process.ts');

class Peer {
  id = '';
  log = '';
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>();
  #last = 0;

  constructor(host: Host) {
    this.#child = host.spawn(process.execPath, [PROGRAM], { stdio: ['ignore', 'inherit', 'pipe', 'ipc'] });
    this.#child.stderr!.on('data', (data) => {
      this.log += data;
    });
    this.#child.on('message', ({ id, result, error }: { id: number; result: never; error?: string }) => {
      const { resolve, reject } = this.#waiting.get(id)!;
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    });
  }

  do<T>(command: Command): Promise<T> {
    const id = ++this.#last;
    this.#child.send({ id, command });
    return new Promise<T>((resolve, reject) => this.#waiting.set(id, { resolve: resolve as never, reject }));
  }

  addresses(): Promise<string[]> {
    return this.do({ addresses: true });
  }

  async sees(other: Peer): Promise<ConnectionInfo | undefined> {
    const list = await this.do<ConnectionInfo[]>({ list: true });
    return list.find(({ peer_id }) => peer_id === other.id);
  }
}

describe.skipIf(NO_NAMESPACES !== null)(`peers in several networks${skipNote(NO_NAMESPACES)}`, () => {
  let net: Internet;
  let folder: string;
  let server: Peer;
  let serverHost: Host;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'flowmesh-networks-'));
    net = await Internet.make();
    serverHost = await net.host('server');
    server = await start(serverHost, 'serves', []);
  });
  afterEach(async () => {
    await net[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  async function start(host: Host, relay: Relaying, bootstrap: string[]): Promise<Peer> {
    const peer = new Peer(host);
    peer.id = await peer.do({ start: { name: host.name, data_dir: join(folder, host.name), bootstrap, relay } });
    return peer;
  }
  const joined = async (host: Host): Promise<Peer> => {
    const peer = await start(host, 'uses', [`/ip4/${serverHost.address}/tcp/7600`]);
    await eventually('it has a place at the server', async () =>
      (await peer.addresses()).some((address) => address.includes('/p2p-circuit')),
    );
    return peer;
  };

  it('two behind different home routers work through the server, whose addresses they tell are theirs', async () => {
    const [desk, sofa] = [await (await net.home('one')).host('desk'), await (await net.home('two')).host('sofa')];
    const [one, other] = [await joined(desk), await joined(sofa)];
    // Both are 192.168.1.2: that address is of the asker itself, and nobody answers there for the other one.
    expect(await one.addresses()).toContain(`/ip4/192.168.1.2/tcp/7600/p2p/${one.id}`);
    await one.do({ dial: other.id, at: await other.addresses() });
    expect(await one.do({ ask: other.id, text: 'hello' })).toEqual({ text: 'hello' });
    expect(await other.sees(one)).toMatchObject({ path: 'relayed', relay: server.id });
    expect(await one.sees(server)).toMatchObject({ path: 'direct' });
  });

  it('one that can be dialled is connected directly, though it was met through a relay', async () => {
    const [desk, open] = [await (await net.home('one')).host('desk'), await net.host('open')];
    const [one, other] = [await joined(desk), await joined(open)];
    // Told only the way through the relay: its own addresses come with its greeting.
    const relayed = (await other.addresses()).filter((address) => address.includes('/p2p-circuit'));
    await one.do({ dial: other.id, at: relayed });
    await eventually('it is direct', async () => (await one.sees(other))?.path === 'direct');
    expect(await other.do({ ask: one.id, text: 'hello' })).toEqual({ text: 'hello' });
  });

  it('one that swallows packets is reached through the relay within one deadline', async () => {
    const [near, far] = [await net.host('near'), await net.host('far')];
    await net.separate(near, far);
    const [one, other] = [await joined(near), await joined(far)];
    await one.do({ dial: other.id, at: await other.addresses() });
    expect(await one.do({ ask: other.id, text: 'hello' })).toEqual({ text: 'hello' });
    expect(await one.sees(other)).toMatchObject({ path: 'relayed' });
    expect((await one.sees(other))?.path_reason).toContain('direct addresses did not answer (timeout)');
  });

  it('one that moves to another network is back in seconds, and its new address is known', async () => {
    const laptop = await net.host('laptop');
    const peer = await joined(laptop);
    const before = await server.sees(peer);
    await laptop.moveTo(net);
    await eventually('it is back', async () => {
      const now = await server.sees(peer);
      return now?.status === 'connected' && now.connection_id !== before?.connection_id;
    });
    await eventually('it answers', async () => (await server.do({ ask: peer.id, text: 'x' })) !== null);
    await eventually('the new address is known', async () =>
      (await server.sees(peer))?.multiaddrs.some((address) => address.includes(`/${laptop.address}/`)),
    );
    await laptop.moveTo(await net.home('home'));
    await eventually('it is back behind a router', async () => (await peer.do({ ask: server.id, text: 'x' })) !== null);
  });
});
