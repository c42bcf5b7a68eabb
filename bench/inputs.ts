/**
 * How long an input can hold the mesh loop: two peers are sent a table of nasty inputs, each within the limits or just
 * over them, and the longest turn of either mesh loop is shown.
 *
 *   npm run bench:inputs
 *
 * "cpu" is the processor time that the mesh thread used in its longest turn; "wall" is what passed meanwhile, which on a
 * busy machine is more.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BroadcastChannel } from 'node:worker_threads';
import { multiaddr } from '@multiformats/multiaddr';
import { errorShape, type JsonObject, type JsonValue } from '../dag/errors.ts';
import { JSON_ELEMENTS_MAX, JSON_NAMES_MAX } from '../dag/limits.ts';
import { configSchema } from '../node/config/settings.ts';
import { createLog } from '../node/log.ts';
import { packMessage } from '../node/p2p/frames.ts';
import { helloOf, PEER_PROTOCOL } from '../node/p2p/greeting.ts';
import { createHost } from '../node/p2p/host.ts';
import { type RunningPeer, startPeer } from '../node/peer.ts';
import { STALLS_CHANNEL, type Stall } from './inputs-mesh-thread.ts';

const MESH = 'bench-inputs';
const AIM_MS = 100;
const SETTLE_MS = 500;
const MIB = 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
/** As many values as an input may have, and room for what is around them. */
const WIDE = JSON_ELEMENTS_MAX - 1_000;

const log = createLog({ level: 'error' });
const channel = new BroadcastChannel(STALLS_CHANNEL);

interface Mesh {
  a: RunningPeer;
  b: RunningPeer;
  frame(body: Uint8Array): Promise<void>;
}

const empty = (count: number): JsonValue[] => Array.from({ length: count }, () => ({}));
const named = (count: number): JsonObject =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, index]));
const echo = (count: number, more: (index: number) => JsonObject = () => ({})): JsonObject[] =>
  Array.from({ length: count }, (_, index) => ({ step_id: `s${index}`, action: 'echo', ...more(index) }));

/** Answered, with whatever: only how long the loops take is looked at. */
const call = (peer: RunningPeer, tool: string, input: JsonObject): Promise<string> =>
  peer.router.call(tool, input).then(
    () => 'accepted',
    (error) => errorShape(error).code,
  );
const workflow = (more: JsonObject): JsonObject => ({ name: 'w', steps: [{ step_id: 's', action: 'echo' }], ...more });
const submit =
  (more: JsonObject) =>
  ({ a }: Mesh) =>
    call(a, 'workflow_submit', workflow(more));
const frame = (body: Uint8Array) => async (mesh: Mesh) => {
  await mesh.frame(body);
  return 'sent';
};

const INPUTS: [name: string, send: (mesh: Mesh) => Promise<string>][] = [
  ['nothing', async () => 'idle'],
  ['metadata [{},{},…], as many as allowed', submit({ metadata: { x: empty(WIDE) } })],
  ['metadata [{},{},…] of 1 MB', submit({ metadata: { x: empty(350_000) } })],
  ['metadata [{},{},…] of 4 MB', submit({ metadata: { x: empty(1_400_000) } })],
  ['metadata of as many names as allowed', submit({ metadata: named(JSON_NAMES_MAX - 1_000) })],
  ['metadata, one string of 7 MiB', submit({ metadata: { x: 'x'.repeat(7 * MIB) } })],
  ['metadata, 100,000 levels', submit({ metadata: { x: JSON.parse(`${'['.repeat(100_000)}${']'.repeat(100_000)}`) } })],
  ['10,000 steps', submit({ steps: echo(10_000) })],
  [
    '10,000 steps in a chain',
    submit({ steps: echo(10_000, (index) => ({ depends_on: index === 0 ? [] : [`s${index - 1}`] })) }),
  ],
  [
    '100,000 dependencies',
    submit({ steps: echo(447, (index) => ({ depends_on: echo(index).map(({ step_id }) => step_id!) })) }),
  ],
  [
    '10,000 expressions',
    submit({ input: { a: 1 }, steps: echo(10_000, (index) => ({ inputs: { x: `\${ input.a + ${index} }` } })) }),
  ],
  [
    'foreach over 100,000',
    submit({ steps: [{ step_id: 's', action: 'echo', foreach: '${ [1..100000] }', max_parallel: 4 }] }),
  ],
  [
    'task, payload and output [{},{},…]',
    ({ a }) => call(a, 'task_submit', { task_id: 'wide', task_type: 'echo', payload: { x: empty(WIDE) } }),
  ],
  [
    'its result, through the other peer',
    async ({ a, b }) => {
      await call(a, 'task_submit', { task_id: 'wide', task_type: 'echo', payload: { x: empty(WIDE) } });
      await ended(b, 'wide');
      return await call(b, 'task_result', { task_id: 'wide' });
    },
  ],
  [
    'a submit again, through the other peer',
    async ({ a, b }) => {
      const again = { task_id: 'wide', task_type: 'echo', payload: { x: empty(WIDE) } };
      await call(a, 'task_submit', again);
      return await call(b, 'task_submit', again);
    },
  ],
  [
    'task, payload of names',
    ({ a }) => call(a, 'task_submit', { task_type: 'echo', payload: named(JSON_NAMES_MAX - 1_000) }),
  ],
  ['frame, 1 MiB of empty maps', frame(Buffer.alloc(MIB, 0x80))],
  ['frame, 15 MiB of empty maps', frame(Buffer.alloc(15 * MIB, 0x80))],
  ['frame, as many values as allowed', frame(packMessage({ id: 2, method: 'lease', params: empty(390_000) }))],
  ['frame, a beat with 65,536 tokens', frame(packMessage({ id: 2, method: 'beat', params: beat(65_536) }))],
  [
    'frame, a call with names',
    frame(
      packMessage({
        id: 2,
        method: 'call',
        params: { tool: 'workflow_submit', input: workflow({ metadata: named(WIDE) }), hops: 0 },
      }),
    ),
  ],
  ['frame, 100,000 levels', frame(Buffer.alloc(100_000, 0x91))],
];

function beat(tokens: number): JsonObject {
  const state = {
    name: 'x',
    version: '0',
    feeds: [],
    workers: [],
    queued: 0,
    running: 0,
    paused: false,
    waiting: [],
    addresses: [],
  };
  const holding = Array.from({ length: tokens }, (_, attempt) => ({ uid: 'u', feed_id: 'f', epoch: 1, attempt }));
  return { state, holding, knows: [] };
}

async function ended(peer: RunningPeer, task_id: string): Promise<void> {
  for (;;) {
    const status = await peer.router.call('task_status', { task_id }).then(
      (answer) => answer['status'],
      () => null,
    );
    if (status === 'completed' || status === 'failed') return;
    await pause(50);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The longest turn of a peer's mesh loop since it was asked last. */
function worstOf({ config: { name } }: RunningPeer): Promise<Stall> {
  return new Promise((resolve) => {
    channel.addEventListener('message', function answered(event) {
      const { of, worst } = (event as unknown as { data: { of?: string; worst: Stall } }).data;
      if (of !== name) return;
      channel.removeEventListener('message', answered);
      resolve(worst);
    });
    channel.postMessage({ ask: name });
  });
}

async function start(name: string, root: string, bootstrap: string[]): Promise<RunningPeer> {
  const config = configSchema.parse({
    ...{
      name,
      mesh: MESH,
      data_dir: join(root, name),
      runtime: 'dedicated',
      http: null,
      log_level: 'error',
      bootstrap,
    },
  });
  return await startPeer(config, log, { mesh_entry: new URL('./inputs-mesh-thread.ts', import.meta.url) });
}

/** A member of the mesh that sends whatever bytes it likes. */
async function hostile(
  root: string,
): Promise<{ send(to: RunningPeer, body: Uint8Array): Promise<void>; stop(): Promise<void> }> {
  const host = await createHost({
    ...{ mesh: MESH, listen: [], data_dir: join(root, 'hostile'), version: '0.1.0', mdns: false, gossip: false },
    ...{ denied: () => new Set<string>(), log },
  });
  await host.start();
  return {
    async send(to, body) {
      const stream = await host.node.dialProtocol(multiaddr(to.addresses[0]!), PEER_PROTOCOL);
      const state = {
        name: 'hostile',
        version: '0',
        feeds: [],
        workers: [],
        queued: 0,
        running: 0,
        paused: false,
        waiting: [],
        addresses: [],
      };
      stream.send(framed(packMessage({ id: 1, method: 'hello', params: helloOf(MESH, state, []) })));
      stream.send(framed(packMessage({ method: 'ready', params: {} })));
      const bytes = framed(body);
      for (let at = 0; at < bytes.length && stream.status === 'open'; at += CHUNK_BYTES) {
        const drained = stream.send(bytes.subarray(at, at + CHUNK_BYTES))
          ? null
          : new Promise((resolve) => stream.addEventListener('drain', resolve, { once: true }));
        await Promise.race([drained, pause(SETTLE_MS)]); // A stream that was closed says nothing more.
      }
      await pause(1_000);
      stream.abort(new Error('done'));
    },
    stop: () => host.stop(),
  };
}

function framed(body: Uint8Array): Buffer {
  const bytes = Buffer.alloc(4 + body.byteLength);
  bytes.writeUInt32BE(body.byteLength);
  bytes.set(body, 4);
  return bytes;
}

/** On peers of its own: what one input leaves to do is not counted for the next. */
async function measure(send: (mesh: Mesh) => Promise<string>): Promise<{ answer: string; worst: Stall }> {
  const root = await mkdtemp(join(tmpdir(), 'flowmesh-bench-inputs-'));
  const a = await start('a', root, []);
  const b = await start('b', root, a.addresses);
  const raw = await hostile(root);
  try {
    await pause(SETTLE_MS);
    await Promise.all([worstOf(a), worstOf(b)]);
    const answer = await send({ a, b, frame: (body) => raw.send(a, body) });
    await pause(SETTLE_MS);
    const stalls = await Promise.all([worstOf(a), worstOf(b)]);
    return { answer, worst: stalls.sort((one, other) => other.cpu_ms - one.cpu_ms)[0]! };
  } finally {
    await raw.stop();
    await Promise.all([a.stop(), b.stop()]);
    await rm(root, { recursive: true, force: true });
  }
}

const [only = ''] = process.argv.slice(2);
console.log('| input | answer | longest turn, cpu ms | wall ms |\n| --- | --- | ---: | ---: |');
let over = 0;
for (const [name, send] of INPUTS.filter(([each]) => each.includes(only))) {
  const { answer, worst } = await measure(send);
  if (worst.cpu_ms > AIM_MS) over++;
  console.log(`| ${name} | ${answer} | ${worst.cpu_ms.toFixed(0)} | ${worst.wall_ms.toFixed(0)} |`);
}
console.log(over === 0 ? `\nNo turn took more than ${AIM_MS} ms.` : `\n${over} took more than ${AIM_MS} ms.`);
channel.close();
process.exit(0);
