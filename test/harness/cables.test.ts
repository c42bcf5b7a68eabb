import { expect, it } from 'vitest';
import { around, between, Cables, type CutKind } from './cables.ts';
import { eventually } from './eventually.ts';
import { type ProcessMesh, startProcesses } from './processes.ts';

/** How many connections each peer has. */
async function connections(mesh: ProcessMesh): Promise<(number | undefined)[]> {
  return Promise.all(mesh.peers.map(async (peer) => (await peer.ready())?.connected_peers));
}

function untilConnections(mesh: ProcessMesh, ...counts: number[]): Promise<true> {
  const check = async () => {
    expect(await connections(mesh)).toEqual(counts);
    return true as const;
  };
  // A silent cable is noticed by pings, and a peer that was lost is dialled ever more seldom.
  return eventually(`the peers have ${counts.join(', ')} connections`, check);
}

it.each<CutKind>(['closed', 'silent'])(
  'peers are apart while their cable is %s, and find each other after it',
  async (how) => {
    await using cables = await Cables.lay(3);
    await using mesh = await startProcesses(3, cables.options());
    const mendPair = cables.cut(between(0, 1), how);
    await untilConnections(mesh, 1, 1, 2);
    const mendAll = cables.cut(around(2), how);
    await untilConnections(mesh, 0, 0, 0);
    mendAll();
    mendPair();
    await untilConnections(mesh, 2, 2, 2);
  },
);

it('the end of a process is not seen through a silent cable', async () => {
  await using cables = await Cables.lay(2);
  await using mesh = await startProcesses(2, cables.options());
  const mend = cables.cut(between(0, 1), 'silent');
  await mesh.peers[1]!.kill();
  const [first] = mesh.peers;
  expect((await first!.ready())?.connected_peers).toBe(1);
  mend();
  await eventually('it is seen', async () => (await first!.ready())?.connected_peers === 0);
  await mesh.peers[1]!.start();
  await untilConnections(mesh, 1, 1);
});
