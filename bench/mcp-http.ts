/**
 * What MCP over HTTP costs: `initialize`, calls one after the other, and calls with many in flight, measured with a
 * raw keep-alive client (`raw-mcp-client.ts`).
 *
 *   node bench/mcp-http.ts                                     # the listener alone, in a process of its own, before a
 *                                                              # router that answers at once
 *   node bench/mcp-http.ts --url http://127.0.0.1:7601/mcp     # a running peer
 *
 * Options: --tool NAME (default queue_stats), --input JSON (default {}), --iterations N (sequential calls, default
 * 2000; as many again are made in flight), --in-flight N (default 32), --json FILE.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import type { JsonObject } from '../dag/errors.ts';
import { silentLog } from '../node/log.ts';
import { startListener } from '../node/mcp/listener.ts';
import type { ToolRouter } from '../node/runtimes/router.ts';
import { RawMcpClient } from './raw-mcp-client.ts';

const WARM_UP_CALLS = 500;
const SESSIONS_OPENED = 5;

export interface CallFigures {
  calls_per_second: number;
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
}

export interface McpHttpFigures {
  /** Median of SESSIONS_OPENED sessions, each over a new connection. */
  initialize_ms: number;
  sequential: CallFigures;
  in_flight: CallFigures & { calls: number };
}

export interface McpHttpOptions {
  /** With its path, e.g. http://127.0.0.1:7601/mcp */
  url: string;
  tool: string;
  input: JsonObject;
  iterations: number;
  in_flight: number;
}

export async function measureMcpHttp(options: McpHttpOptions): Promise<McpHttpFigures> {
  const initialize: number[] = [];
  for (let opened = 0; opened < SESSIONS_OPENED; opened++) {
    const client = new RawMcpClient(options.url, 1);
    initialize.push(await client.initialize());
    client.close();
  }
  const client = new RawMcpClient(options.url, options.in_flight);
  try {
    await client.initialize();
    await timed(client, options, Math.min(WARM_UP_CALLS, options.iterations), options.in_flight);
    const sequential = await timed(client, options, options.iterations, 1);
    const together = await timed(client, options, options.iterations, options.in_flight);
    return {
      initialize_ms: percentile(initialize, 0.5),
      sequential,
      in_flight: { calls: options.in_flight, ...together },
    };
  } finally {
    client.close();
  }
}

async function timed(client: RawMcpClient, options: McpHttpOptions, calls: number, inFlight: number) {
  const times: number[] = [];
  let left = calls;
  const start = performance.now();
  const lane = async () => {
    while (left-- > 0) {
      const sent = performance.now();
      await client.call(options.tool, options.input);
      times.push(performance.now() - sent);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  const seconds = (performance.now() - start) / 1000;
  return {
    calls_per_second: Math.round(times.length / seconds),
    p50_ms: percentile(times, 0.5),
    p95_ms: percentile(times, 0.95),
    p99_ms: percentile(times, 0.99),
  };
}

function percentile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return Number(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!.toFixed(3));
}

/** The listener alone: what a call costs before any router. */
async function serveInstantRouter(): Promise<void> {
  const router: Pick<ToolRouter, 'call'> = { call: async () => ({ success: true, queued_count: 0, paused: false }) };
  const listener = await startListener({
    router: router as ToolRouter,
    host: '127.0.0.1',
    port: 0,
    info: { peer_id: 'bench', name: 'bench', version: '0.0.0' },
    log: silentLog,
  });
  process.send!({ url: `${listener.url}/mcp` });
  process.once('disconnect', () => void listener.close());
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      url: { type: 'string' },
      tool: { type: 'string', default: 'queue_stats' },
      input: { type: 'string', default: '{}' },
      iterations: { type: 'string', default: '2000' },
      'in-flight': { type: 'string', default: '32' },
      json: { type: 'string' },
      serve: { type: 'boolean', default: false },
    },
  });
  if (values.serve) return serveInstantRouter();

  let server: ChildProcess | undefined;
  try {
    let url = values.url;
    if (url === undefined) {
      server = fork(import.meta.filename, ['--serve']);
      [{ url }] = (await once(server, 'message')) as [{ url: string }];
    }
    const input = JSON.parse(values.input) as JsonObject;
    const iterations = Number(values.iterations);
    const figures = await measureMcpHttp({
      url,
      tool: values.tool,
      input,
      iterations,
      in_flight: Number(values['in-flight']),
    });
    if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(figures, null, 2)}\n`);
    process.stdout.write(`initialize            p50 ${figures.initialize_ms} ms\n`);
    process.stdout.write(line('sequential', figures.sequential));
    process.stdout.write(line(`${figures.in_flight.calls} in flight`, figures.in_flight));
  } finally {
    server?.disconnect();
  }
}

function line(name: string, { calls_per_second, p50_ms, p95_ms, p99_ms }: CallFigures): string {
  return `${name.padEnd(20)}  p50 ${p50_ms} ms, p95 ${p95_ms} ms, p99 ${p99_ms} ms, ${calls_per_second} calls/s\n`;
}

if (import.meta.main) await main();
