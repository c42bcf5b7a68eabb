/** P7: what has ended is in nobody's memory. */
import type { LeaseToken } from '../../scheduler/messages.ts';
import type { LieLedger } from './lie-ledger.ts';
import type { SimulatedMesh } from './mesh.ts';

/** What the peers of a mesh without unfinished work still keep of it. */
export function leftBehind(mesh: SimulatedMesh, lies: LieLedger): string[] {
  const failures: string[] = [];
  const isPromised = ({ feed_id }: LeaseToken) => !lies.isShared(feed_id);
  for (const { peer_id, scheduler } of mesh.peers.values()) {
    const { feeds, dependencies, pool, peers } = scheduler.parts;
    const owned = feeds.all().filter(({ feed_id }) => !lies.isShared(feed_id));
    const sum = (count: (feed: (typeof owned)[number]) => number) => owned.reduce((all, feed) => all + count(feed), 0);
    const live = owned.flatMap(({ tasks, runs }) => [...tasks.live.values(), ...runs.live.values()]);
    const waiting = live.filter(({ record }) => lies.mayWaitForEver(record.uid)).length;
    const left = {
      live: live.length - waiting,
      queued: sum(({ tasks }) => tasks.queue.size),
      leases: sum(({ tasks }) => tasks.leases.size),
      unwritten: sum(({ journal }) => journal.backlog),
      frozen: sum(({ journal }) => Number(journal.isFrozen)),
      // What belongs to a feed that a liar keeps, too, may never end.
      dependencies: lies.hasShared || waiting > 0 ? 0 : dependencies.size,
      running: lies.hasShared ? 0 : pool.running,
      kept: [...mesh.peers.keys()].flatMap((owner) => pool.holding(owner)).filter(isPromised).length,
      believed: peers.workers().filter((worker) => worker.tasks.some((uid) => !lies.isInShared(uid))).length,
    };
    if (Object.values(left).some((count) => count > 0)) failures.push(`P7: ${peer_id} keeps ${JSON.stringify(left)}`);
  }
  return failures;
}
