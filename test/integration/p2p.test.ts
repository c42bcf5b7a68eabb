import { stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import { Dialler } from '../../node/p2p/dial-order.ts';
import { PEER_PROTOCOL } from '../../node/p2p/greeting.ts';
import { createHost, type Host } from '../../node/p2p/host.ts';
import { KnownPeers } from '../../node/p2p/known-peers.ts';
import { Links } from '../../node/p2p/links.ts';
import type { P2PNetwork } from '../../node/p2p/network.ts';
import type { NetworkEvents } from '../../scheduler/ports.ts';
import { SILENT_EVENTS, stateNamed, TestPeers, until } from './p2p-peers.ts';
import { RawPeer } from './p2p-raw-peer.ts';

const DEADLINE_MS = 5_000;

let peers: TestPeers;
const closers: (() => Promise<unknown>)[] = [];

beforeEach(() => {
  peers = new TestPeers();
});
afterEach(async () => {
  await Promise.all(closers.splice(0).map((close) => close()));
  await peers.close();
});

/** Events in the order they came, and answers to `echo`, `never` and `big`. */
function listening(): NetworkEvents & { log: string[] } {
  const log: string[] = [];
  return {
    log,
    async onMessage(_peer, method, params) {
      log.push(method);
      if (method === 'never') return new Promise<JsonValue>(() => {});
      if (method === 'big') return 'x'.repeat((params as { bytes: number }).bytes);
      return params as JsonValue;
    },
    onOffer: (_from, offer) => log.push(`offer ${(offer as { n: number }).n}`),
    onConnected: () => log.push('connected'),
    onDisconnected: () => log.push('disconnected'),
  };
}

async function rawPeer(): Promise<RawPeer> {
  const raw = await RawPeer.open(await peers.folder());
  closers.push(() => raw.close());
  return raw;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof FlowmeshError) return error.code;
    throw error;
  }
  return 'no error';
}

/** A way to a peer that can be cut without either side knowing why. */
async function openCable(to: P2PNetwork): Promise<{ address: string; cut(): void }> {
  const sockets = new Set<Socket>();
  const port = Number(portOf(to).split('/').at(-1));
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.pipe(into);
      from.on('error', () => into.destroy()); // The cut.
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  closers.push(async () => {
    cut();
    server.close();
  });
  return { address: `/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}`, cut };
}

const portOf = (network: P2PNetwork): string => network.addresses()[0]!.split('/p2p/')[0]!;
const linked = (a: P2PNetwork, b: P2PNetwork): boolean =>
  a.connected().includes(b.self) && b.connected().includes(a.self);

describe('who is refused', () => {
  test('a peer of another mesh is told both names', async () => {
    const a = await peers.open({ mesh: 'blue' });
    const b = await peers.open({ mesh: 'red' });
    const error = await b.connect(a.self, a.addresses()).catch((reason) => reason);
    expect(error).toMatchObject({ code: 'WRONG_MESH', retryable: false });
    expect(error.message).toMatch(/"blue".*"red"/);
    expect([a.connected(), b.connected()]).toEqual([[], []]);
    expect(peers.log.lines.some(({ level, fields }) => level === 'warn' && fields['code'] === 'WRONG_MESH')).toBe(true);
  });

  test('a peer of another major version is told so, whatever else its hello looks like', async () => {
    const a = await peers.open();
    const stream = await (await rawPeer()).stream(a);
    stream.send({ id: 1, method: 'hello', params: { protocol: '2.0.0', mesh: 'test', anything: [] } });
    const { error } = await stream.next(({ id }) => id === 1);
    expect(error).toMatchObject({ code: 'VERSION_MISMATCH', retryable: false });
    expect(error!.message).toContain('2.0.0');
    expect((await stream.goodbye()).code).toBe('VERSION_MISMATCH');
    expect(a.connected()).toEqual([]);
  });

  test.each([
    ['a request', { id: 1, method: 'echo', params: {} }],
    ['a notification', { method: 'note', params: {} }],
    ['ready', { method: 'ready', params: {} }],
  ])('%s before hello ends the stream and reaches nobody', async (_what, message) => {
    const events = listening();
    const a = await peers.open({}, events);
    const stream = await (await rawPeer()).stream(a);
    stream.send(message);
    expect((await stream.goodbye()).code).toBe('HELLO_EXPECTED');
    expect(events.log).toEqual([]);
  });

  test('a hello with a bad state is told what is wrong with it', async () => {
    const a = await peers.open();
    const stream = await (await rawPeer()).stream(a);
    const params = { protocol: '1.0.0', mesh: 'test', addresses: [], state: { ...stateNamed('x'), queued: 'many' } };
    stream.send({ id: 1, method: 'hello', params });
    const { error } = await stream.next(({ id }) => id === 1);
    expect(error).toMatchObject({ code: 'INVALID_HELLO' });
    expect(error!.message).toContain('queued');
  });

  test('a denied peer can neither dial nor be dialled', async () => {
    const denied = new Set<string>();
    const a = await peers.open({ denied: () => denied });
    const b = await peers.open();
    denied.add(b.self);
    expect(await codeOf(a.connect(b.self, b.addresses()))).toBe('PEER_UNREACHABLE');
    expect(await codeOf(b.connect(a.self, a.addresses()))).toBe('PEER_UNREACHABLE');
  });
});

describe('bad bytes', () => {
  test('a malformed frame ends the stream with its reason; the others go on', async () => {
    const events = listening();
    const a = await peers.open({}, events);
    const b = await peers.open();
    await b.connect(a.self, a.addresses());
    const raw = await rawPeer();
    const stream = await raw.stream(a);
    await stream.greet();
    await until(() => a.connected().includes(raw.id));
    stream.bytes(Buffer.from([0, 0, 0, 2, 0x92, 0x01]));
    const goodbye = await stream.goodbye();
    expect(goodbye.code).toBe('MALFORMED_FRAME');
    expect(goodbye.message).toContain('cannot be read');
    await until(() => events.log.includes('disconnected'));
    expect(peers.log.lines.some(({ level, message }) => level === 'warn' && message.includes('malformed frame'))).toBe(
      true,
    );
    expect(await b.request(a.self, 'echo', { n: 1 }, DEADLINE_MS)).toEqual({ n: 1 });
  });

  test('an answer to a request that was never sent is malformed', async () => {
    const a = await peers.open();
    const stream = await (await rawPeer()).stream(a);
    await stream.greet();
    stream.send({ id: 77, result: 1 });
    expect((await stream.goodbye()).message).toContain('77');
  });
});

describe('one stream per pair', () => {
  async function openLinks(): Promise<{ host: Host; links: Links; log: string[] }> {
    const log: string[] = [];
    const host = await createHost({
      mesh: 'test',
      listen: ['/ip4/127.0.0.1/tcp/0'],
      data_dir: await peers.folder(),
      version: '0.1.0',
      mdns: false,
      gossip: false,
      denied: () => new Set(),
      log: peers.log,
    });
    const known = new KnownPeers(() => true);
    const links: Links = new Links(
      host.node,
      known,
      {
        greeted: () => log.push('greeted'),
        lost: () => log.push('lost'),
        request: async (_peer, _method, params) => params as JsonValue,
        notification: () => {},
      },
      {
        mesh: 'test',
        dialler: new Dialler(host.node, known),
        describe: () => stateNamed('x'),
        addresses: () => [],
        denied: () => new Set(),
        limits: undefined,
        log: peers.log,
      },
    );
    await host.node.handle(PEER_PROTOCOL, (stream, connection) => links.accept(stream, connection));
    await host.start();
    closers.push(() => host.stop());
    return { host, links, log };
  }

  const idOf = (host: Host): string => host.node.peerId.toString();
  const addressesOf = (host: Host): string[] => host.node.getMultiaddrs().map(String);
  const streamsOf = (host: Host): number =>
    host.node.getConnections().flatMap(({ streams }) => streams.filter(({ protocol }) => protocol === PEER_PROTOCOL))
      .length;

  test('two peers that dial each other at once end with one stream, used by both', async () => {
    for (let round = 0; round < 10; round++) {
      const [a, b] = await Promise.all([openLinks(), openLinks()]);
      const [toB, toA] = await Promise.all([
        a.links.open(idOf(b.host), addressesOf(b.host)),
        b.links.open(idOf(a.host), addressesOf(a.host)),
      ]);
      await until(() => streamsOf(a.host) === 1 && streamsOf(b.host) === 1, 'one stream at each side');
      expect(await toB.request('echo', { round }, DEADLINE_MS)).toEqual({ round });
      expect(await toA.request('echo', { round }, DEADLINE_MS)).toEqual({ round });
      expect([a.log, b.log]).toEqual([['greeted'], ['greeted']]);
    }
  });

  test('many calls to connect share one attempt', async () => {
    const [a, b] = await Promise.all([openLinks(), openLinks()]);
    const streams = await Promise.all(
      Array.from({ length: 20 }, () => a.links.open(idOf(b.host), addressesOf(b.host))),
    );
    expect(new Set(streams).size).toBe(1);
    await until(() => b.log.length > 0);
    expect([a.log, b.log]).toEqual([['greeted'], ['greeted']]);
  });

  test('a stream that the other side opens anew takes the place of the old one', async () => {
    const events = listening();
    const a = await peers.open({}, events);
    const raw = await rawPeer();
    const first = await raw.stream(a);
    await first.greet();
    await until(() => events.log.includes('connected'));
    const second = await raw.stream(a);
    await second.greet();
    expect((await first.goodbye()).code).toBe('REPLACED');
    const answer = a.request(raw.id, 'echo', { n: 1 }, DEADLINE_MS);
    const { id } = await second.next(({ method }) => method === 'echo');
    second.send({ id: id!, result: 'from the second' });
    expect(await answer).toBe('from the second');
    expect(events.log).toEqual(['hello', 'connected', 'hello', 'connected']);
  });
});

describe('limits', () => {
  test('a message that is too large fails that call only, in both directions', async () => {
    const limits = { messageBytesMax: 10_000 };
    const a = await peers.open({ limits }, listening());
    const b = await peers.open({ limits });
    await b.connect(a.self, a.addresses());
    const small = b.request(a.self, 'echo', { n: 1 }, DEADLINE_MS);
    const large = b.request(a.self, 'echo', { text: 'x'.repeat(10_000) }, DEADLINE_MS);
    const largeAnswer = b.request(a.self, 'big', { bytes: 10_000 }, DEADLINE_MS);
    expect(await large.catch((error) => error)).toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
      retryable: false,
      details: { maximum_bytes: 10_000 },
    });
    expect(await codeOf(largeAnswer)).toBe('MESSAGE_TOO_LARGE');
    expect(await small).toEqual({ n: 1 });
    expect(await b.request(a.self, 'big', { bytes: 9_000 }, DEADLINE_MS)).toHaveLength(9_000);
  });

  test('requests beyond the limit wait in line, beyond the line they are refused, and a beat passes', async () => {
    const events = listening();
    const a = await peers.open({}, events);
    const b = await peers.open({ limits: { requestsInFlightMax: 3, requestsWaitingMax: 2 } });
    await b.connect(a.self, a.addresses());
    const stuck = Array.from({ length: 3 }, () => codeOf(b.request(a.self, 'never', {}, 300)));
    const waiting = [1, 2].map((n) => b.request(a.self, 'echo', { n }, DEADLINE_MS));
    expect(await codeOf(b.request(a.self, 'echo', { n: 3 }, DEADLINE_MS))).toBe('PEER_BUSY');
    expect(await b.request(a.self, 'beat', {}, DEADLINE_MS)).toEqual({});
    expect(events.log.filter((method) => method === 'echo')).toEqual([]);
    expect(await Promise.all(stuck)).toEqual(Array(3).fill('DEADLINE_EXCEEDED'));
    expect(await Promise.all(waiting)).toEqual([{ n: 1 }, { n: 2 }]);
  });

  test('a request in line ends at its own deadline', async () => {
    const a = await peers.open({}, listening());
    const b = await peers.open({ limits: { requestsInFlightMax: 1 } });
    await b.connect(a.self, a.addresses());
    const stuck = codeOf(b.request(a.self, 'never', {}, 90));
    expect(await codeOf(b.request(a.self, 'echo', {}, 20))).toBe('DEADLINE_EXCEEDED');
    expect(await stuck).toBe('DEADLINE_EXCEEDED');
    expect(await b.request(a.self, 'echo', { n: 1 }, DEADLINE_MS)).toEqual({ n: 1 });
  });

  test('a peer that has too many requests handled at once is told to come back', async () => {
    const a = await peers.open({ limits: { requestsServedMax: 2 } }, listening());
    const b = await peers.open();
    await b.connect(a.self, a.addresses());
    const stuck = [1, 2].map(() => codeOf(b.request(a.self, 'never', {}, 90)));
    expect(await codeOf(b.request(a.self, 'echo', {}, DEADLINE_MS))).toBe('PEER_BUSY');
    await Promise.all(stuck);
  });

  test('more bytes than may wait are refused; what was taken arrives whole and in order', async () => {
    const received: number[] = [];
    const events: NetworkEvents = {
      ...SILENT_EVENTS,
      onMessage: async (_peer, method, params) => {
        if (method === 'bulk') received.push((params as { n: number }).n);
        return null;
      },
    };
    const a = await peers.open({}, events);
    const b = await peers.open({ limits: { outboxBytesMax: 20_000_000 } });
    await b.connect(a.self, a.addresses());
    const text = 'x'.repeat(1_000_000);
    const codes = await Promise.all(
      Array.from({ length: 30 }, (_, n) => codeOf(b.request(a.self, 'bulk', { n, text }, 20_000))),
    );
    const taken = codes.filter((code) => code === 'no error').length;
    expect(codes).toEqual([...Array(taken).fill('no error'), ...Array(30 - taken).fill('PEER_BUSY')]);
    expect(taken).toBeGreaterThanOrEqual(19);
    expect(taken).toBeLessThan(30);
    expect(received).toEqual(Array.from({ length: taken }, (_, n) => n));
    expect(await b.request(a.self, 'note', {}, DEADLINE_MS)).toBeNull();
  });
});

describe('staying connected', () => {
  test('a bootstrap peer that starts late is found, and its absence was said', async () => {
    const placeholder = await peers.open();
    const address = portOf(placeholder);
    await placeholder.stop();
    const b = await peers.open({ bootstrap: [address] });
    await until(() =>
      peers.log.lines.some(({ level, message }) => level === 'warn' && message.includes(`${address} is not reachable`)),
    );
    const late = await peers.open({ listen: [address] });
    await until(() => linked(late, b), 'the late bootstrap peer is connected');
    expect(b.list().find(({ peer_id }) => peer_id === late.self)).toMatchObject({
      source: 'bootstrap',
      status: 'connected',
    });
  });

  test('a bootstrap address that is the peer itself is left alone, with and without its PeerId', async () => {
    const placeholder = await peers.open();
    const address = portOf(placeholder);
    const data_dir = await peers.folder();
    await placeholder.stop();
    const before = await peers.open({ listen: [address], data_dir });
    await before.stop();
    const a = await peers.open({ listen: [address], data_dir, bootstrap: [address, `${address}/p2p/${before.self}`] });
    expect(a.self).toBe(before.self);
    await until(
      () => peers.log.lines.filter(({ message }) => message.includes('bootstrap peer of its address')).length === 2,
    );
    expect(peers.log.lines.filter(({ message }) => message.includes('not reachable'))).toEqual([]);
  });

  test('a peer that restarts on the same identity and address is connected again', async () => {
    const events = listening();
    const a = await peers.open({}, events);
    const data_dir = await peers.folder();
    const first = await peers.open({ data_dir });
    const address = portOf(first);
    await a.connect(first.self, first.addresses());
    await first.stop();
    await until(() => events.log.includes('disconnected'));
    expect(await codeOf(a.request(first.self, 'echo', {}, DEADLINE_MS))).toBe('PEER_UNREACHABLE');
    const second = await peers.open({ data_dir, listen: [address] }, listening());
    expect(second.self).toBe(first.self);
    await until(() => linked(a, second), 'the restarted peer is connected');
    expect(events.log).toEqual(['hello', 'connected', 'disconnected', 'hello', 'connected']);
    expect(await a.request(second.self, 'echo', { n: 2 }, DEADLINE_MS)).toEqual({ n: 2 });
  });

  test('a peer that restarts at another address finds the peers it knew', async () => {
    const a = await peers.open();
    const data_dir = await peers.folder();
    const first = await peers.open({ data_dir });
    await first.connect(a.self, a.addresses());
    await first.stop();
    const second = await peers.open({ data_dir });
    await until(() => linked(a, second), 'the restarted peer is connected');
  });

  test('a broken connection is redialled once, before anyone is told', async () => {
    const events = [listening(), listening()] as const;
    const a = await peers.open({}, events[0]);
    const b = await peers.open({}, events[1]);
    const cable = await openCable(b);
    await a.connect(b.self, [cable.address]);
    await until(() => linked(a, b));
    cable.cut();
    while (a.connected().length > 0) await new Promise((resolve) => setImmediate(resolve));
    // Nobody is connected now; the request waits for the redial.
    expect(await a.request(b.self, 'echo', { n: 1 }, DEADLINE_MS)).toEqual({ n: 1 });
    await until(() => events.every(({ log }) => log.filter((line) => line === 'connected').length === 2));
    expect(events[0].log).toEqual(['hello', 'connected', 'hello', 'connected']);
    expect(events[1].log).not.toContain('disconnected');
  });

  test('a busy connection outlives the pings that watch it', async () => {
    const events = listening();
    const a = await peers.open({}, events);
    const b = await peers.open();
    await b.connect(a.self, a.addresses());
    // Longer than the interval of the pings, whose streams are limited per connection.
    for (const started = performance.now(); performance.now() - started < 2_500; ) {
      await Promise.all(Array.from({ length: 64 }, (_, n) => b.request(a.self, 'echo', { n }, DEADLINE_MS)));
    }
    expect(events.log.filter((line) => line === 'connected')).toHaveLength(1);
  });

  test('peers that know only the bootstrap peer all meet', async () => {
    const first = await peers.open({ auto_connect: true });
    const all = [first];
    for (let n = 0; n < 4; n++) all.push(await peers.open({ auto_connect: true, bootstrap: [portOf(first)] }));
    await until(() => all.every((peer) => peer.connected().length === 4), 'a full mesh of five');
  });

  test('disconnecting on purpose is told to the other side, and either may connect again', async () => {
    const events = listening();
    const a = await peers.open();
    const b = await peers.open({ bootstrap: [portOf(a)] }, events);
    await until(() => linked(a, b));
    expect(await a.disconnect(b.self, 'maintenance')).toEqual({ was_connected: true });
    await until(() => events.log.includes('disconnected'));
    expect(peers.log.lines.some(({ fields }) => JSON.stringify(fields['goodbye'] ?? '').includes('maintenance'))).toBe(
      true,
    );
    expect(await a.disconnect(b.self, undefined)).toEqual({ was_connected: false });
    // Not by itself, neither here nor there; only when asked to.
    expect(await codeOf(a.connect(b.self, b.addresses()))).toBe('PEER_UNREACHABLE');
    expect(await codeOf(b.connect(a.self, a.addresses()))).toBe('PEER_UNREACHABLE');
    const signal = new AbortController().signal;
    const result = await b.connect({
      peer_id: undefined,
      multiaddr: portOf(a),
      timeout_ms: DEADLINE_MS,
      retry_count: 0,
      persist: true,
      signal,
    });
    expect(result).toMatchObject({ peer_id: a.self, protocol_version: '1.0.0', attempts: 1 });
    await until(() => linked(a, b));
  });
});

describe('in a line A–B–C', () => {
  async function line(): Promise<{ a: P2PNetwork; c: P2PNetwork; events: ReturnType<typeof listening> }> {
    const apart = [new Set<string>(), new Set<string>()] as const;
    const events = listening();
    const b = await peers.open();
    const a = await peers.open({ denied: () => apart[0] }, events);
    const c = await peers.open({ denied: () => apart[1] });
    apart[0].add(c.self);
    apart[1].add(a.self);
    await a.connect(b.self, b.addresses());
    await c.connect(b.self, b.addresses());
    return { a, c, events };
  }

  test('the DHT names C for a capability at A', async () => {
    const { a, c } = await line();
    c.provide(['label:gpu']);
    let found: string[] = [];
    for (let tries = 0; tries < 100 && found.length === 0; tries++)
      found = await a.findProviders('label:gpu', 4, DEADLINE_MS);
    expect(found).toEqual([c.self]);
    const [info] = await a
      .discover({
        capabilities: ['label:gpu'],
        max_peers: 10,
        timeout_ms: DEADLINE_MS,
        signal: new AbortController().signal,
      })
      .then((all) => all.filter(({ peer_id }) => peer_id === c.self));
    expect(info).toMatchObject({ status: 'disconnected', multiaddrs: expect.arrayContaining(c.addresses()) });
    expect(a.connected()).not.toContain(c.self);
  });

  test('an offer of C is heard at A', async () => {
    const { c, events } = await line();
    await until(() => {
      if (!events.log.includes('offer 1')) c.publish({ n: 1 });
      return events.log.includes('offer 1');
    }, 'the offer is heard');
  });
});

describe('starting', () => {
  test('the identity is kept in a file that only its owner reads', async () => {
    const data_dir = await peers.folder();
    const a = await peers.open({ data_dir });
    expect((await stat(path.join(data_dir, 'identity.key'))).mode & 0o777).toBe(0o600);
    await a.stop();
    expect((await peers.open({ data_dir })).self).toBe(a.self);
  });

  test('a damaged identity is an error, not a new peer', async () => {
    const data_dir = await peers.folder();
    await writeFile(path.join(data_dir, 'identity.key'), 'damaged');
    expect(await codeOf(peers.open({ data_dir }))).toBe('IDENTITY_UNREADABLE');
  });

  test('a data folder in use, a port in use and a bad address are each said', async () => {
    const data_dir = await peers.folder();
    const a = await peers.open({ data_dir });
    expect(await codeOf(peers.open({ data_dir }))).toBe('DATA_FOLDER_IN_USE');
    expect(await codeOf(peers.open({ listen: [portOf(a)] }))).toBe('CANNOT_LISTEN');
    expect(await codeOf(peers.open({ bootstrap: ['localhost:7600'] }))).toBe('INVALID_ADDRESS');
  });

  test('stopping tells the others at once, and twice is once', async () => {
    const events = listening();
    const a = await peers.open({}, events);
    const b = await peers.open();
    await b.connect(a.self, a.addresses());
    await until(() => linked(a, b));
    await Promise.all([b.stop(), b.stop()]);
    await until(() => events.log.includes('disconnected'));
    expect(peers.log.lines.some(({ fields }) => JSON.stringify(fields['goodbye'] ?? '').includes('STOPPING'))).toBe(
      true,
    );
  });

  test('unreachable targets say why', async () => {
    const a = await peers.open();
    const gone = await peers.open();
    await gone.stop();
    const base = { timeout_ms: DEADLINE_MS, retry_count: 2, persist: false, signal: new AbortController().signal };
    const failed = await a.connect({ ...base, peer_id: undefined, multiaddr: '/ip4/127.0.0.1/tcp/1' }).catch((e) => e);
    expect(failed).toMatchObject({ code: 'PEER_UNREACHABLE', retryable: true });
    expect(failed.message).toContain('ECONNREFUSED');
    expect(await codeOf(a.connect({ ...base, peer_id: undefined, multiaddr: 'nowhere' }))).toBe('INVALID_ADDRESS');
    expect(await codeOf(a.connect({ ...base, peer_id: a.self, multiaddr: undefined }))).toBe('INVALID_TARGET');
    expect(await codeOf(a.connect({ ...base, peer_id: 'bob', multiaddr: undefined }))).toBe('INVALID_PEER_ID');
    expect(await codeOf(a.disconnect('bob', undefined))).toBe('INVALID_PEER_ID');
    const tried = await a.bootstrap({
      addresses: ['/ip4/127.0.0.1/tcp/1'],
      timeout_ms: DEADLINE_MS,
      min_connections: 1,
      max_connections: 10,
      signal: base.signal,
    });
    expect(tried.connected).toEqual([]);
    expect(tried.failed[0]).toMatchObject({ address: '/ip4/127.0.0.1/tcp/1' });
  });
});
