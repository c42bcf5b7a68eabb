import type { PeerState } from '../../scheduler/messages.ts';
import type { NetworkEvents } from '../../scheduler/ports.ts';
import { type NetworkWorld, networkCompliance } from '../compliance/network.ts';
import { SimulatedNetwork } from './simulated-network.ts';
import { Switchboard } from './switchboard.ts';
import { World } from './world.ts';

const SEED = 1;
/** Simulated: more than any deadline in the suite. */
const PATIENCE_MS = 60_000;
const STEP_MS = 10;

async function openWorld(
  count: number,
  events: (index: number) => NetworkEvents,
  state: (index: number) => PeerState,
): Promise<NetworkWorld> {
  const world = new World(SEED);
  // Messages overtake each other unless the network keeps them in order.
  const board = new Switchboard<SimulatedNetwork>(world, { loss: 0, delayMs: [0.1, 20] });
  const networks = Array.from({ length: count }, (_, index) => {
    const network = new SimulatedNetwork(`peer-${index}`, board);
    network.attach(events(index), () => state(index));
    return network;
  });

  async function until(condition: () => boolean): Promise<void> {
    const end = world.now + PATIENCE_MS;
    while (!(await world.run(Math.min(world.now + STEP_MS, end), condition))) {
      if (world.now >= end) throw new Error(`the condition does not hold after ${PATIENCE_MS} simulated ms`);
    }
  }

  async function run<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const note = () => {
      settled = true;
    };
    promise.then(note, note);
    await until(() => settled);
    return await promise;
  }

  const nameOf = (index: number) => networks[index]!.self;
  for (const [index, network] of networks.entries()) {
    for (const other of networks.slice(index + 1)) await run(network.connect(other.self));
  }
  return {
    networks,
    cut: async (a, b) => board.cut(nameOf(a), nameOf(b)),
    heal: async (a, b) => board.heal(nameOf(a), nameOf(b)),
    run,
    until,
    close: async () => {}, // memory alone
  };
}

networkCompliance('simulated', openWorld);
