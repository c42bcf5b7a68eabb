/**
 * Two peers that cannot dial each other, and a member that relays for them. That addresses do not answer is played:
 * what a peer may dial is asked of the test.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isRelayed } from '../../node/p2p/addresses.ts';
import type { P2PNetwork, P2POptions } from '../../node/p2p/network.ts';
import type { NetworkEvents } from '../../scheduler/ports.ts';
import { SILENT_EVENTS, TestPeers, until } from '../integration/p2p-peers.ts';

const DEADLINE_MS = 60_000;

describe('a peer that cannot be dialled', () => {
  let peers: TestPeers;
  let relay: P2PNetwork;
  /** Nobody but the relay is dialled directly. */
  let blocked: boolean;

  beforeEach(async () => {
    peers = new TestPeers();
    blocked = true;
    relay = await peers.open({ name: 'relay', relay: 'serves' });
  });
  afterEach(() => peers.close());

  const open = (
    name: string,
    events: NetworkEvents = SILENT_EVENTS,
    options: Partial<P2POptions> = {},
  ): Promise<P2PNetwork> =>
    peers.open(
      {
        name,
        relay: 'uses',
        bootstrap: relay.addresses().filter((address) => !isRelayed(address)),
        undialable: (address) => blocked && !isRelayed(address) && !address.includes(relay.self),
        ...options,
      },
      events,
    );
  const hasPlace = (peer: P2PNetwork): boolean => peer.addresses().some(isRelayed);
  const infoOf = (at: P2PNetwork, of: P2PNetwork) => at.list().find(({ peer_id }) => peer_id === of.self);
  const direct = (peer: P2PNetwork): string[] => peer.addresses().filter((address) => !isRelayed(address));

  it('takes a place at a relay and says so in its addresses', async () => {
    const one = await open('one');
    await until(() => hasPlace(one));
    const through = one.addresses().filter(isRelayed);
    expect(through.every((address) => address.includes(`/p2p/${relay.self}/p2p-circuit/p2p/${one.self}`))).toBe(true);
    expect(relay.addresses().some(isRelayed)).toBe(false);
  });

  it('is reached through it, in both directions, and the list says why', async () => {
    const heard: string[] = [];
    const one = await open('one', {
      ...SILENT_EVENTS,
      onMessage: async (from, method) => {
        heard.push(`${method} from ${from}`);
        return method === 'ask' ? 'answer' : null;
      },
    });
    const other = await open('other', { ...SILENT_EVENTS, onMessage: async () => 'and back' });
    await until(() => hasPlace(one));
    await other.connect(one.self, one.addresses());
    expect(await other.request(one.self, 'ask', {}, DEADLINE_MS)).toBe('answer');
    expect(await one.request(other.self, 'ask', {}, DEADLINE_MS)).toBe('and back');
    expect(heard).toContain(`ask from ${other.self}`);
    expect(infoOf(other, one)).toMatchObject({ path: 'relayed', relay: relay.self });
    expect(infoOf(one, other)).toMatchObject({ path: 'relayed', relay: relay.self });
    expect(infoOf(other, one)?.path_reason).toMatch(/^relayed through …\w{8}: direct addresses did not answer \(.+\)$/);
    expect(infoOf(other, relay)).toMatchObject({ path: 'direct', relay: null, path_reason: null });
  });

  it('has as many bytes and as much time as on a direct connection', async () => {
    const one = await open('one', { ...SILENT_EVENTS, onMessage: async (_from, _method, params) => params as never });
    const other = await open('other');
    await until(() => hasPlace(one));
    await other.connect(one.self, one.addresses());
    // The usual limit of a relay is 128 KiB for the whole connection.
    const text = 'x'.repeat(3 * 1024 * 1024);
    expect(await other.request(one.self, 'echo', { text }, DEADLINE_MS)).toEqual({ text });
    expect(infoOf(other, one)?.path).toBe('relayed');
  });

  it('hears offers and is found for what it can do', async () => {
    const offers: string[] = [];
    const hears = (): NetworkEvents => ({ ...SILENT_EVENTS, onOffer: (from) => offers.push(from) });
    const one = await open('one', hears());
    const other = await open('other');
    await until(() => hasPlace(one) && hasPlace(other));
    await other.connect(one.self, one.addresses());
    one.provide(['weld']);
    const found = async (): Promise<boolean> => (await other.findProviders('weld', 1, 2_000)).includes(one.self);
    let named = false;
    await until(() => {
      void found().then((yes) => {
        named ||= yes;
      });
      return named;
    });
    await until(() => {
      other.publish({ classes: [] });
      return offers.includes(other.self);
    });
  });

  it('is reached directly as soon as it can be, nothing is lost on the way, and the relayed connection is closed', async () => {
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const disconnected: string[] = [];
    const one = await open('one', {
      ...SILENT_EVENTS,
      onMessage: async (_from, method) => {
        if (method === 'slow') await gate;
        return method;
      },
      onDisconnected: (peer) => disconnected.push(peer),
    });
    const other = await open('other', { ...SILENT_EVENTS, onDisconnected: (peer) => disconnected.push(peer) });
    await until(() => hasPlace(one));
    await other.connect(one.self, one.addresses());
    const relayed = infoOf(other, one)?.connection_id;
    const slow = other.request(one.self, 'slow', {}, DEADLINE_MS);
    blocked = false;
    await until(() => infoOf(other, one)?.path === 'direct' && infoOf(one, other)?.path === 'direct');
    expect(infoOf(other, one)?.connection_id).not.toBe(relayed);
    expect(await other.request(one.self, 'fast', {}, DEADLINE_MS)).toBe('fast');
    release();
    expect(await slow).toBe('slow');
    await until(() => peers.log.lines.some(({ message }) => /relayed connection is closed/.test(message)));
    expect(disconnected).toEqual([]);
    expect(other.connected()).toContain(one.self);
  });

  it('whose address swallows packets is reached within the deadline of one dial', async () => {
    const one = await open('one');
    await until(() => hasPlace(one));
    // Addresses where nobody listens, first; a real one that swallows packets is in the tests over networks.
    const other = await open('other');
    const silent = ['/ip4/127.0.0.1/tcp/1', '/ip4/127.0.0.1/tcp/2'];
    await other.connect(one.self, [...silent, ...direct(one), ...one.addresses().filter(isRelayed)]);
    expect(infoOf(other, one)?.path).toBe('relayed');
  });

  it('is not dialled through a relay where there are to be none', async () => {
    const one = await open('one');
    await until(() => hasPlace(one));
    const other = await open('other', SILENT_EVENTS, { relay: undefined });
    await expect(other.connect(one.self, one.addresses().filter(isRelayed))).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
    });
  });

  it('has its place again after the relay came back', async () => {
    const folder = await peers.folder();
    const listen = ['/ip4/127.0.0.1/tcp/0'];
    let second = await peers.open({ name: 'second', relay: 'serves', data_dir: folder, listen });
    const at = second.addresses();
    const one = await open('one', SILENT_EVENTS, {
      bootstrap: at,
      undialable: (address) => !isRelayed(address) && !address.includes(second.self),
    });
    await until(() => hasPlace(one));
    await second.stop();
    await until(() => !hasPlace(one));
    second = await peers.open({
      ...{ name: 'second', relay: 'serves', data_dir: folder },
      listen: at.map((address) => address.replace(/\/p2p\/.*/, '')),
    });
    await until(() => hasPlace(one));
  });

  it('has its place again at a relay that came back and dialled it first', async () => {
    const folder = await peers.folder();
    const listen = ['/ip4/127.0.0.1/tcp/0'];
    let second = await peers.open({ name: 'second', relay: 'serves', data_dir: folder, listen });
    const at = second.addresses();
    let isCutOff = false;
    const one = await open('one', SILENT_EVENTS, {
      bootstrap: at,
      undialable: (address) => isCutOff || (!isRelayed(address) && !address.includes(second.self)),
    });
    await until(() => hasPlace(one));
    isCutOff = true;
    await second.stop();
    await until(() => !hasPlace(one));
    second = await peers.open({
      ...{ name: 'second', relay: 'serves', data_dir: folder },
      listen: at.map((address) => address.replace(/\/p2p\/.*/, '')),
    });
    const connected = second.connect(one.self, direct(one));
    isCutOff = false;
    await connected;
    await until(() => hasPlace(one));
  });

  it('is named to others only at addresses that whoever names it knows itself', async () => {
    const one = await open('one');
    await until(() => hasPlace(one));
    const throughIt = direct(relay).map((address) => `${address}/p2p-circuit/p2p/${one.self}`);
    // What `one` says of itself is not among them: the relay never tried it.
    expect(relay.addressesOf(one.self)).toEqual(throughIt);
    expect(one.addressesOf(relay.self)).toEqual(direct(relay));
    const other = await open('other');
    await other.connect(one.self, throughIt);
    expect(other.addressesOf(one.self)).toEqual([]);
    await one.stop();
    await until(() => infoOf(relay, one)?.status === 'disconnected');
    await until(() => relay.addressesOf(one.self).length === 0);
  });
});
