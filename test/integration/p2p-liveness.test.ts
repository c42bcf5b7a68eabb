/** Which connections are broken: those of peers that are silent, never those of peers that are only slow. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { P2PNetwork } from '../../node/p2p/network.ts';
import type { NetworkEvents } from '../../scheduler/ports.ts';
import { SILENT_EVENTS, TestPeers, until } from './p2p-peers.ts';
import { RawPeer } from './p2p-raw-peer.ts';

const LIMITS = { intervalMs: 30, timeoutMs: 120 };
const TALK_MS = 10;

let peers: TestPeers;
let raw: RawPeer;
let network: P2PNetwork;
let disconnected: string[];
let pings: number;

beforeEach(async () => {
  peers = new TestPeers();
  disconnected = [];
  pings = 0;
  const events: NetworkEvents = { ...SILENT_EVENTS, onDisconnected: (peer) => disconnected.push(peer) };
  network = await peers.open({ liveness: LIMITS }, events);
  raw = await RawPeer.open(await peers.folder());
  await raw.ignorePings(() => pings++);
});

afterEach(async () => {
  await raw.close();
  await peers.close();
});

it('a peer that says nothing and answers no ping is lost', async () => {
  const stream = await raw.stream(network);
  await stream.greet();
  await until(() => disconnected.includes(raw.id));
  expect(pings).toBeGreaterThan(0);
  expect(network.connected()).toEqual([]);
});

it('a peer that talks keeps its connection, though it answers no ping', async () => {
  const stream = await raw.stream(network);
  await stream.greet();
  let told = 0;
  const talking = setInterval(() => {
    stream.send({ method: 'note', params: {} });
    told++;
  }, TALK_MS);
  try {
    // Many times the time in which a silent peer is lost.
    await until(() => told >= (10 * (LIMITS.intervalMs + LIMITS.timeoutMs)) / TALK_MS);
  } finally {
    clearInterval(talking);
  }
  expect(disconnected).toEqual([]);
  expect(network.connected()).toEqual([raw.id]);
});

it('a peer whose ping is late, and that says something meanwhile, keeps its connection', async () => {
  const stream = await raw.stream(network);
  await stream.greet();
  // Each ping that arrives here is left unanswered; a message goes back instead.
  await raw.ignorePings(() => {
    pings++;
    stream.send({ method: 'note', params: {} });
  });
  await until(() => pings >= 5);
  expect(disconnected).toEqual([]);
  expect(network.connected()).toEqual([raw.id]);
});
