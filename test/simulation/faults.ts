/** What happens to a simulated mesh while it works: crashes, cuts, full disks, stops, sleep, and its users. */
import type { Accepted } from './load.ts';
import type { SimulatedMesh } from './mesh.ts';

/** What was asked of the mesh beside submits. */
export interface Cancels {
  asked: Set<string>;
  confirmed: Set<string>;
}

const ANSWERED_MS = 200;

/** A process that is gone and comes back on its disk. */
export function crashOne(mesh: SimulatedMesh, names: readonly string[]): boolean {
  const { random } = mesh.world;
  const victim = random.pick(names);
  if (!mesh.peers.get(victim)!.alive) return false;
  const disk = mesh.kill(victim);
  mesh.world.at(random.between(10, 3_000), () => void mesh.restart(victim, disk));
  return true;
}

/** A process that stops in peace and starts again. */
export function stopOne(mesh: SimulatedMesh, names: readonly string[]): void {
  const { random } = mesh.world;
  const name = random.pick(names);
  const peer = mesh.peers.get(name)!;
  if (!peer.alive) return;
  mesh.world.note(`stop ${name}`);
  const away = random.between(10, 3_000);
  void peer.scheduler.stop().then(() => {
    if (mesh.peers.get(name) !== peer || !peer.alive) return; // it crashed while it stopped
    const disk = mesh.kill(name);
    mesh.world.at(away, () => void mesh.restart(name, disk));
  });
}

/** A process that is held for a while, as by a debugger or a machine that sleeps (P11). */
export function holdOne(mesh: SimulatedMesh, names: readonly string[]): void {
  const { random } = mesh.world;
  const name = random.pick(names);
  mesh.world.note(`hold ${name}`);
  mesh.peers.get(name)!.clock.sleep(random.between(100, 12_000));
}

/** Two peers cannot reach each other for a while. */
export function cutOne(mesh: SimulatedMesh, names: readonly string[]): void {
  const { random } = mesh.world;
  const [a, b] = [random.pick(names), random.pick(names)];
  if (a === b) return;
  mesh.world.note(`cut ${a} ${b}`);
  mesh.board.cut(a, b);
  mesh.world.at(random.between(50, 8_000), () => {
    mesh.world.note(`heal ${a} ${b}`);
    mesh.board.heal(a, b);
  });
}

/** A cancel that was confirmed holds, whatever happens to the peers after it. */
export function cancelOne(mesh: SimulatedMesh, accepted: readonly Accepted[], { asked, confirmed }: Cancels): void {
  if (accepted.length === 0) return;
  const { owner, kind, uid } = mesh.world.random.pick(accepted);
  const peer = mesh.peers.get(owner)!;
  if (!peer.alive) return;
  const { scheduler } = peer;
  const options = { reason: 'simulated', force: mesh.world.random.chance(0.5) };
  const done = kind === 'task' ? scheduler.cancelTask(uid, options) : scheduler.cancelWorkflow(uid, options);
  asked.add(uid);
  done.then(
    () => confirmed.add(uid),
    () => {}, // it has ended, or its owner is going down: then it may hold or not
  );
}

/** Somebody pauses a queue for a moment, and puts a task before the others. */
export function pauseOne(mesh: SimulatedMesh, names: readonly string[], accepted: readonly Accepted[]): void {
  const { random } = mesh.world;
  const name = random.pick(names);
  const { scheduler, alive } = mesh.peers.get(name)!;
  if (!alive) return;
  const ignored = () => {}; // the peer goes down, or the task has ended
  scheduler.pauseQueue('simulated').catch(ignored);
  const mine = accepted.filter(({ owner, kind }) => owner === name && kind === 'task');
  if (mine.length > 0) {
    const { uid } = random.pick(mine);
    scheduler.setPriority(uid, { boost: 5 }, { requeue: random.chance(0.5) }).catch(ignored);
  }
}

/** A person who looks at every peer now and then, agrees to all that is asked, and resumes what is paused. */
export function answerAll(mesh: SimulatedMesh, resumes: boolean): void {
  const ignored = () => {}; // the peer goes down, or somebody else was quicker
  for (const { scheduler, alive } of mesh.peers.values()) {
    if (!alive) continue;
    for (const { record } of [...scheduler.feeds.owned.values()].flatMap(({ tasks }) => [...tasks.live.values()])) {
      if (record.status !== 'input_required') continue;
      scheduler.answerTask(record.uid, { approve: true, data: null }).catch(ignored);
    }
    if (resumes && scheduler.queue().paused) scheduler.resumeQueue().catch(ignored);
  }
  mesh.world.at(ANSWERED_MS, () => answerAll(mesh, mesh.world.random.chance(0.3)));
}
