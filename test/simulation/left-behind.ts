/** P7: what has ended is in nobody's memory. */
import type { SimulatedMesh } from './mesh.ts';

/** What the peers of a mesh without unfinished work still keep of it. */
export function leftBehind(mesh: SimulatedMesh): string[] {
  const failures: string[] = [];
  for (const { peer_id, scheduler } of mesh.peers.values()) {
    const { feeds, dependencies, pool, peers } = scheduler.parts;
    const owned = feeds.all();
    const sum = (count: (feed: (typeof owned)[number]) => number) => owned.reduce((all, feed) => all + count(feed), 0);
    const left = {
      tasks: sum(({ tasks }) => tasks.live.size),
      queued: sum(({ tasks }) => tasks.queue.size),
      leases: sum(({ tasks }) => tasks.leases.size),
      workflows: sum(({ runs }) => runs.live.size),
      unwritten: sum(({ journal }) => journal.backlog),
      frozen: sum(({ journal }) => Number(journal.isFrozen)),
      dependencies: dependencies.size,
      running: pool.running,
      kept: [...mesh.peers.keys()].flatMap((owner) => pool.holding(owner)).length,
      believed: peers.workers().filter((worker) => worker.tasks.length > 0).length,
    };
    if (Object.values(left).some((count) => count > 0)) failures.push(`P7: ${peer_id} keeps ${JSON.stringify(left)}`);
  }
  return failures;
}
