/** P7: what has ended is in nobody's memory. */
import type { LeaseToken } from '../../scheduler/messages.ts';
import type { LieLedger } from './lie-ledger.ts';
import type { SimulatedMesh } from './mesh.ts';

/** What the peers of a mesh without unfinished work still keep of it. */
export function leftBehind(mesh: SimulatedMesh, lies: LieLedger): string[] {
  const failures: string[] = [];
  // What may wait for ever need not: it may run when everything else has ended.
  const isPromised = ({ feed_id, uid }: LeaseToken) => !lies.isShared(feed_id) && !lies.mayWaitForEver(uid);
  for (const { peer_id, scheduler } of mesh.peers.values()) {
    const { feeds, dependencies, pool, peers } = scheduler.parts;
    const owned = feeds.all().filter(({ feed_id }) => !lies.isShared(feed_id));
    const sum = (count: (feed: (typeof owned)[number]) => number) => owned.reduce((all, feed) => all + count(feed), 0);
    const live = owned.flatMap(({ tasks, runs }) => [...tasks.live.values(), ...runs.live.values()]);
    const waiting = live.map(({ record }) => record).filter(({ uid }) => lies.mayWaitForEver(uid));
    const among = (status: string) =>
      waiting.filter((record) => record.kind === 'task' && record.status === status).length;
    const held = [...mesh.peers.keys()].flatMap((owner) => pool.holding(owner));
    const left = {
      live: live.length - waiting.length,
      queued: Math.max(0, sum(({ tasks }) => tasks.queue.size) - among('queued')),
      leases: sum(({ tasks }) => tasks.leases.size) - among('running'),
      unwritten: sum(({ journal }) => journal.backlog),
      frozen: sum(({ journal }) => Number(journal.isFrozen)),
      // What belongs to a feed that a liar keeps, too, may never end.
      dependencies: lies.hasShared || waiting.length > 0 ? 0 : dependencies.size,
      running: lies.hasShared
        ? 0
        : Math.max(0, pool.running - held.filter(({ uid }) => lies.mayWaitForEver(uid)).length),
      kept: held.filter(isPromised).length,
      believed: peers
        .workers()
        .filter((worker) => worker.tasks.some((uid) => !lies.isInShared(uid) && !lies.mayWaitForEver(uid))).length,
    };
    if (Object.values(left).some((count) => count > 0)) failures.push(`P7: ${peer_id} keeps ${JSON.stringify(left)}`);
  }
  return failures;
}
