/**
 * What every Network keeps to, whatever carries its messages. Run by each implementation's own test:
 *
 *   networkCompliance('libp2p', openWorld);
 */
import { afterEach, describe, expect, test } from 'vitest';
import { FlowmeshError, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import type { PeerState } from '../../scheduler/messages.ts';
import type { Network, NetworkEvents } from '../../scheduler/ports.ts';

const DEADLINE_MS = 5_000;

/** Networks of which every pair is connected, and the power over them. */
export interface NetworkWorld {
  networks: Network[];
  /** Breaks the connection of two networks and keeps them apart, as a cut cable would. */
  cut(a: number, b: number): Promise<void>;
  /** Lets two networks connect again. Does not connect them. */
  heal(a: number, b: number): Promise<void>;
  /** Lets time pass until the promise settles. */
  run<T>(promise: Promise<T>): Promise<T>;
  /** Lets time pass until the condition holds; rejects when it does not within a bound. */
  until(condition: () => boolean): Promise<void>;
  close(): Promise<void>;
}

/** Makes `count` networks, attaches `events(index)` and `state(index)` to each, starts and connects them. */
export type OpenNetworkWorld = (
  count: number,
  events: (index: number) => NetworkEvents,
  state: (index: number) => PeerState,
) => Promise<NetworkWorld>;

interface Heard {
  from: string;
  method: string;
  params: unknown;
}

/** Keeps what a network says, and answers requests. */
class Listener implements NetworkEvents {
  /** Messages and connection events, in the order they came. */
  readonly log: string[] = [];
  readonly heard: Heard[] = [];
  readonly offers: { from: string; offer: unknown }[] = [];

  async onMessage(from: string, method: string, params: unknown): Promise<JsonValue | undefined> {
    this.log.push(`${method} ${from}`);
    this.heard.push({ from, method, params });
    if (method === 'echo') return params as JsonValue;
    if (method === 'nothing') return undefined;
    if (method === 'never') return new Promise(() => {});
    if (method === 'refuse') {
      throw new FlowmeshError('NOT_TODAY', 'Come back tomorrow.', { retryable: true, details: { day: 1 } });
    }
    if (method === 'break') throw new Error('a defect');
    return null;
  }

  onOffer(from: string, offer: unknown): void {
    this.offers.push({ from, offer });
  }

  onConnected(peer: string): void {
    this.log.push(`connected ${peer}`);
  }

  onDisconnected(peer: string): void {
    this.log.push(`disconnected ${peer}`);
  }

  count(entry: string): number {
    return this.log.filter((line) => line === entry).length;
  }
}

function stateOf(index: number): PeerState {
  return {
    name: `peer-${index}`,
    version: '0.1.0',
    feeds: [{ feed_id: `feed-${index}`, epoch: 1, base_seq: 0, nonce: '' }],
    workers: [],
    queued: index,
    running: 0,
    paused: false,
    waiting: [],
    addresses: [],
  };
}

async function failure(promise: Promise<unknown>): Promise<FlowmeshError> {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(FlowmeshError);
  return error as FlowmeshError;
}

export function networkCompliance(name: string, open: OpenNetworkWorld): void {
  describe(`Network compliance: ${name}`, () => {
    let world: NetworkWorld;
    let listeners: Listener[];

    async function start(count: number): Promise<Network[]> {
      listeners = Array.from({ length: count }, () => new Listener());
      world = await open(count, (index) => listeners[index]!, stateOf);
      await world.until(() =>
        world.networks.every((network) => network.connected().length === world.networks.length - 1),
      );
      return world.networks;
    }

    afterEach(() => world.close());

    test('a request is answered with what the other side returned', async () => {
      const [a, b] = (await start(2)) as [Network, Network];
      const value = { text: 'żółw 🐢', list: [1, -2.5, 2 ** 40, true, null], nested: { empty: {}, none: [] } };
      expect(await world.run(a.request(b.self, 'echo', value, DEADLINE_MS))).toEqual(value);
      expect(await world.run(b.request(a.self, 'nothing', {}, DEADLINE_MS))).toBeNull();
    });

    test('the sender is the peer of the connection', async () => {
      const [a, b, c] = (await start(3)) as [Network, Network, Network];
      await world.run(a.request(c.self, 'echo', { peer_id: b.self }, DEADLINE_MS));
      expect(listeners[2]!.heard.filter(({ method }) => method === 'echo').map(({ from }) => from)).toEqual([a.self]);
    });

    test('many requests at once each get their own answer', async () => {
      const [a, b] = (await start(2)) as [Network, Network];
      const numbers = Array.from({ length: 3_000 }, (_, n) => n);
      const answers = await world.run(
        Promise.all(
          numbers.map((n) =>
            n % 2 ? a.request(b.self, 'echo', { n }, 20_000) : b.request(a.self, 'echo', { n }, 20_000),
          ),
        ),
      );
      expect(answers).toEqual(numbers.map((n) => ({ n })));
    });

    test('messages to one peer arrive in the order they were sent', async () => {
      const [a, b] = (await start(2)) as [Network, Network];
      for (let n = 0; n < 500; n++) a.notify(b.self, 'note', { n });
      await world.run(a.request(b.self, 'echo', { n: 500 }, DEADLINE_MS));
      const numbers = listeners[1]!.heard
        .filter(({ method }) => method === 'note' || method === 'echo')
        .map(({ params }) => (params as { n: number }).n);
      expect(numbers).toEqual(Array.from({ length: 501 }, (_, n) => n));
    });

    test('an error of the other side keeps code, message, retryable and details', async () => {
      const [a, b] = (await start(2)) as [Network, Network];
      for (const peer of [b.self, a.self]) {
        const refused = await failure(world.run(a.request(peer, 'refuse', {}, DEADLINE_MS)));
        expect(refused.toShape()).toEqual({
          code: 'NOT_TODAY',
          message: 'Come back tomorrow.',
          retryable: true,
          details: { day: 1 },
        });
        const broken = await failure(world.run(a.request(peer, 'break', {}, DEADLINE_MS)));
        expect(broken).toMatchObject({ code: 'INTERNAL', message: 'a defect', retryable: false });
      }
    });

    test('a request that is not answered ends at its deadline', async () => {
      const [a, b] = (await start(2)) as [Network, Network];
      for (const peer of [b.self, a.self]) {
        const late = await failure(world.run(a.request(peer, 'never', {}, 50)));
        expect(late).toMatchObject({ code: 'DEADLINE_EXCEEDED', retryable: true });
      }
      expect(await world.run(a.request(b.self, 'echo', { still: 'usable' }, DEADLINE_MS))).toEqual({ still: 'usable' });
    });

    test('a request to oneself is delivered, and not before the caller goes on', async () => {
      const [a] = (await start(1)) as [Network];
      const answer = a.request(a.self, 'echo', { to: 'me' }, DEADLINE_MS);
      expect(listeners[0]!.heard).toEqual([]);
      expect(await world.run(answer)).toEqual({ to: 'me' });
      a.notify(a.self, 'note', { to: 'me' });
      await world.until(() => listeners[0]!.heard.length === 2);
      expect(listeners[0]!.heard[1]).toEqual({ from: a.self, method: 'note', params: { to: 'me' } });
      await world.run(a.connect(a.self, []));
      expect(a.connected()).toEqual([]);
    });

    test('a peer that is not connected is unreachable, and telling it something is no error', async () => {
      const [a] = (await start(2)) as [Network];
      const nobody = '12D3KooWGAqHmnYPctPszr6wYy1bjyjAXvtEi3aXiWrjrrp8g9ht';
      const error = await failure(world.run(a.request(nobody, 'echo', {}, DEADLINE_MS)));
      expect(error).toMatchObject({ code: 'PEER_UNREACHABLE', retryable: true });
      a.notify(nobody, 'note', {});
    });

    test("a peer's state comes before it is connected and before anything else it says", async () => {
      const [a, b] = (await start(2)) as [Network, Network];
      await world.run(a.request(b.self, 'echo', {}, DEADLINE_MS));
      expect(listeners[1]!.log).toEqual([`hello ${a.self}`, `connected ${a.self}`, `echo ${a.self}`]);
      expect(listeners[0]!.log).toEqual([`hello ${b.self}`, `connected ${b.self}`]);
      expect(listeners[0]!.heard[0]!.params).toMatchObject({
        name: 'peer-1',
        queued: 1,
        feeds: [{ feed_id: 'feed-1' }],
      });
    });

    test('connecting to a connected peer changes nothing', async () => {
      const [a, b] = (await start(2)) as [Network, Network];
      await world.run(Promise.all([a.connect(b.self, b.addresses()), b.connect(a.self, a.addresses())]));
      await world.run(a.request(b.self, 'echo', {}, DEADLINE_MS));
      expect(listeners[0]!.count(`connected ${b.self}`)).toBe(1);
      expect(listeners[1]!.count(`connected ${a.self}`)).toBe(1);
    });

    test('a cut ends what is in flight, both sides are told, and after the heal they connect again', async () => {
      const [a, b, c] = (await start(3)) as [Network, Network, Network];
      const inFlight = failure(a.request(b.self, 'never', {}, DEADLINE_MS));
      await world.until(() => listeners[1]!.heard.some(({ method }) => method === 'never'));
      await world.run(world.cut(0, 1));
      expect(['PEER_UNREACHABLE', 'DEADLINE_EXCEEDED']).toContain((await world.run(inFlight)).code);
      await world.until(
        () =>
          listeners[0]!.count(`disconnected ${b.self}`) === 1 && listeners[1]!.count(`disconnected ${a.self}`) === 1,
      );
      expect(a.connected()).toEqual([c.self]);
      expect((await failure(world.run(a.request(b.self, 'echo', {}, DEADLINE_MS)))).retryable).toBe(true);
      expect((await failure(world.run(a.connect(b.self, b.addresses())))).retryable).toBe(true);
      expect(await world.run(c.request(b.self, 'echo', { by: 'c' }, DEADLINE_MS))).toEqual({ by: 'c' });

      await world.run(world.heal(0, 1));
      await world.run(a.connect(b.self, b.addresses()));
      await world.until(() => listeners[1]!.count(`connected ${a.self}`) === 2);
      expect(listeners[0]!.count(`connected ${b.self}`)).toBe(2);
      expect(listeners[0]!.count(`hello ${b.self}`)).toBe(2);
      expect(await world.run(a.request(b.self, 'echo', { again: 1 }, DEADLINE_MS))).toEqual({ again: 1 });
    });

    test('an offer reaches the others, from its author, and not its author', async () => {
      const [a, b] = (await start(3)) as [Network, Network];
      // P6: one may be lost, so it is said again until it is heard.
      await world.until(() => {
        if (listeners[1]!.offers.length === 0 || listeners[2]!.offers.length === 0) a.publish({ owner: a.self, n: 1 });
        return listeners[1]!.offers.length > 0 && listeners[2]!.offers.length > 0;
      });
      expect(listeners[1]!.offers[0]).toEqual({ from: a.self, offer: { owner: a.self, n: 1 } });
      expect(listeners[0]!.offers).toEqual([]);
      expect(b.connected().length).toBe(2);
    });

    test('providers of a capability are found; one that nobody has is not', async () => {
      const [a, b, c] = (await start(3)) as [Network, Network, Network];
      b.provide(['label:gpu', 'action:echo']);
      c.provide(['action:echo']);
      const find = async (at: Network, capability: string, enough: number): Promise<string[]> => {
        for (let tries = 0; tries < 50; tries++) {
          const found = await world.run(at.findProviders(capability, 8, DEADLINE_MS));
          if (found.length >= enough) return found;
        }
        return [];
      };
      expect(await find(a, 'label:gpu', 1)).toEqual([b.self]);
      expect((await find(a, 'action:echo', 2)).sort()).toEqual([b.self, c.self].sort());
      expect((await world.run(a.findProviders('action:echo', 1, DEADLINE_MS))).length).toBe(1);
      expect(await world.run(b.findProviders('label:gpu', 8, 500))).toEqual([]);
      expect(await world.run(a.findProviders('label:none', 8, 500))).toEqual([]);
    });

    test('parameters of a request belong to the sender: changing them later changes nothing over there', async () => {
      const [a, b] = (await start(2)) as [Network, Network];
      const params: JsonObject = { list: [1] };
      const answer = a.request(b.self, 'echo', params, DEADLINE_MS);
      params['list'] = [2];
      expect(await world.run(answer)).toEqual({ list: [1] });
    });
  });
}
