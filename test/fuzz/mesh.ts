/** Three real peers that get such inputs, all at once, over tools and over streams of their own, while they work. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { errorShape, type JsonObject } from '../../dag/errors.ts';
import { eventually } from '../harness/eventually.ts';
import { type InProcessMesh, startMeshInProcess } from '../harness/in-process.ts';
import { RawPeer, type RawStream } from '../integration/p2p-raw-peer.ts';
import { frameBody, toolCall } from './inputs.ts';

/** Tools that stop a peer's work when they are asked well, which is what they are for. */
const STOPPING = new Set([
  'queue_pause',
  'queue_clear',
  'worker_unregister',
  'worker_register',
  'peer_disconnect',
  'peer_connect',
  'bootstrap_network',
  'peer_discover',
]);
const AT_ONCE = 8;
const STEPS = 30;
const CALL_MS = 60_000;

/**
 * @param cases half of them calls of tools, half frames
 * @returns how many were sent, and how many of the calls were refused
 * @throws Error when a peer did not keep its promises, or the workflow beside it all did not complete
 */
export async function fuzzMesh(cases: number, seed: number): Promise<{ sent: number; refused: number }> {
  await using mesh = await startMeshInProcess(3);
  const folder = await mkdtemp(join(tmpdir(), 'flowmesh-fuzz-'));
  const raw = await RawPeer.open(folder);
  try {
    const half = Math.ceil(cases / 2);
    const calls = fc.sample(
      toolCall.filter(({ tool }) => !STOPPING.has(tool)),
      { numRuns: half, seed },
    );
    const frames = fc.sample(frameBody, { numRuns: half, seed });
    const work = submitWork(mesh);
    const answers = inTurns(AT_ONCE, calls, ({ tool, input }, at) => callAt(mesh, at % 3, tool, input));
    // A peer keeps one stream with another one: each has its frames one after the other.
    const streams = Promise.all(
      mesh.peers.map((_, peer) => {
        const its = frames.filter((_body, at) => at % 3 === peer);
        return inTurns(1, its, (body) => sendFrame(raw, mesh, peer, body));
      }),
    );
    const refused = (await answers).filter((wasRefused) => wasRefused).length;
    await streams;
    await raw.close();
    await work;
    for (const peer of mesh.peers) await peer.call('queue_stats', { scope: 'local' });
    await mesh.allConnected();
    return { sent: 2 * half, refused };
  } finally {
    await raw.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A workflow whose steps wait for each other, so that it takes as long as the rest. */
async function submitWork(mesh: InProcessMesh): Promise<void> {
  const steps = Array.from({ length: STEPS }, (_, index) => ({
    step_id: `s${index}`,
    action: 'echo',
    inputs: { at: index === 0 ? 0 : `\${ steps.s${index - 1}.output.at + 1 }` },
    depends_on: index === 0 ? [] : [`s${index - 1}`],
  }));
  const { workflow_id } = await mesh.peers[0]!.call('workflow_submit', { name: 'beside', steps });
  const id = { workflow_id: workflow_id! };
  await eventually('the workflow beside it has ended', async () => {
    const { status } = await mesh.peers[1]!.call('workflow_status', id);
    if (status === 'failed' || status === 'cancelled') throw new Error(`it is ${status}`);
    return status === 'completed';
  });
  const { result } = await mesh.peers[2]!.call('workflow_result', id);
  const { at } = (result as { [sink: string]: { at: number } })[`s${STEPS - 1}`] ?? (result as { at: number });
  if (at !== STEPS - 1) throw new Error(`the workflow beside it gave ${JSON.stringify(result)}`);
}

/** @returns whether it was refused */
async function callAt(mesh: InProcessMesh, peer: number, tool: string, input: unknown): Promise<boolean> {
  try {
    await mesh.peers[peer]!.call(tool, input as JsonObject, { deadline_ms: CALL_MS });
    return false;
  } catch (error) {
    const { code, message } = errorShape(error);
    if (code === 'INTERNAL' || message.length < 10) throw error;
    return true;
  }
}

async function sendFrame(raw: RawPeer, mesh: InProcessMesh, peer: number, body: Uint8Array): Promise<void> {
  const stream: RawStream = await raw.stream(mesh.peers[peer]!.mesh.network);
  await stream.greet(mesh.peers[peer]!.running!.peer.config.mesh);
  const header = Buffer.alloc(4);
  header.writeUInt32BE(body.length);
  stream.bytes(Buffer.concat([header, body]));
  // One after it, that a stream which still stands answers: the frame has been read by then.
  stream.send({ id: 2 ** 31, method: 'describe', params: {} });
  await eventually('the frame is read', () => stream.ended || stream.received.some(({ id }) => id === 2 ** 31));
  stream.abort();
}

async function inTurns<T, R>(
  atOnce: number,
  items: readonly T[],
  work: (item: T, at: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const next = items.entries();
  const worker = async () => {
    for (const [at, item] of next) results.push(await work(item, at));
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return results;
}
