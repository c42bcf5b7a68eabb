/**
 * What it costs that a peer asks who calls, counts it and writes a trail: calls per second over HTTP at two peers that are
 * otherwise the same, each in a process of its own, in turns in one run.
 *
 *   npm run bench:auth
 *   npm run bench:auth -- --rounds 12 --calls 3000 --in-flight 32 --tool queue_stats --input '{"scope":"local"}'
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { JsonObject } from '../dag/errors.ts';
import { configSchema } from '../node/config/settings.ts';
import { silentLog } from '../node/log.ts';
import { startPeer } from '../node/peer.ts';
import { median } from './percentiles.ts';
import { RawMcpClient } from './raw-mcp-client.ts';

const API_KEY = 'the-key-of-the-benchmark/long+enough=';
/** The limits are counted and never met. */
const LIMITS = {
  requests_per_second: 1_000_000,
  calls_per_second: 1_000_000,
  submissions_per_minute: 100_000_000,
  bytes_per_minute: 2 ** 40,
  open_workflows: 1_000_000,
};
const KINDS = ['open', 'asking'] as const;
type Kind = (typeof KINDS)[number];

async function serve(kind: Kind, data_dir: string): Promise<void> {
  const asking = { auth: { api_key: API_KEY }, audit: true, limits: LIMITS };
  const config = configSchema.parse({ data_dir, mesh: `bench-${kind}`, ...(kind === 'asking' && asking) });
  const peer = await startPeer(config, silentLog);
  process.send!({ url: `${peer.http_url}/mcp` });
  process.once('disconnect', () => void peer.stop().finally(() => process.exit()));
}

interface Options {
  tool: string;
  input: JsonObject;
  calls: number;
  inFlight: number;
}

/** @returns calls per second */
async function round(client: RawMcpClient, { tool, input, calls, inFlight }: Options): Promise<number> {
  let left = calls;
  const start = performance.now();
  const lane = async () => {
    while (left-- > 0) await client.call(tool, input);
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  return (calls / (performance.now() - start)) * 1_000;
}

async function compare(rounds: number, options: Options): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'flowmesh-bench-auth-'));
  const processes: ChildProcess[] = [];
  const clients = new Map<Kind, RawMcpClient>();
  try {
    for (const kind of KINDS) {
      const child = fork(import.meta.filename, ['--serve', kind, '--data-dir', join(folder, kind)]);
      processes.push(child);
      const [{ url }] = (await once(child, 'message')) as [{ url: string }];
      const client = new RawMcpClient(url, options.inFlight, kind === 'asking' ? API_KEY : undefined);
      clients.set(kind, client);
      await client.initialize();
      await round(client, options); // Warm.
    }
    const ratios: number[] = [];
    const figures: Record<Kind, number[]> = { open: [], asking: [] };
    for (let at = 0; at < rounds; at++) {
      // Who goes first has the machine as the one before has left it.
      for (const kind of at % 2 === 0 ? KINDS : KINDS.toReversed()) {
        figures[kind].push(await round(clients.get(kind)!, options));
      }
      ratios.push(figures.asking.at(-1)! / figures.open.at(-1)!);
    }
    const perSecond = (kind: Kind) => `${Math.round(median(figures[kind]))} calls/s`;
    const cost = (1 - median(ratios)) * 100;
    process.stdout.write(
      `${options.tool}, ${options.inFlight} in flight: open ${perSecond('open')}, with auth, limits and trail ${perSecond('asking')}, cost ${cost.toFixed(1)} % (median of ${rounds} pairs)\n`,
    );
  } finally {
    for (const client of clients.values()) client.close();
    for (const child of processes) {
      const exit = once(child, 'exit');
      child.disconnect();
      await exit;
    }
    await rm(folder, { recursive: true, force: true });
  }
}

const { values } = parseArgs({
  options: {
    serve: { type: 'string' },
    'data-dir': { type: 'string' },
    rounds: { type: 'string', default: '12' },
    calls: { type: 'string', default: '3000' },
    'in-flight': { type: 'string', default: '32' },
    tool: { type: 'string', default: 'queue_stats' },
    input: { type: 'string', default: '{"scope":"local"}' },
  },
});
if (values.serve !== undefined) await serve(values.serve as Kind, values['data-dir']!);
else {
  await compare(Number(values.rounds), {
    tool: values.tool,
    input: JSON.parse(values.input) as JsonObject,
    calls: Number(values.calls),
    inFlight: Number(values['in-flight']),
  });
}
