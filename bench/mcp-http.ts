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
import { type Percentiles, percentilesOf } from './percentiles.ts';
import { RawMcpClient } from './raw-mcp-client.ts';

const WARM_UP_CALLS = 500;
const SESSIONS_OPENED = 5;

export interface TimedCalls {
  /** Milliseconds each. */
  samples: number[];
  calls_per_second: number;
}

export interface McpHttpSamples {
  /** Milliseconds, of SESSIONS_OPENED sessions, each over a new connection. */
  initialize: number[];
  sequential: TimedCalls;
  in_flight: TimedCalls;
}

export interface McpHttpOptions {
  /** With its path, e.g. http://127.0.0.1:7601/mcp */
  url: string;
  tool: string;
  input: JsonObject;
  /** Sequential calls, and as many again in flight. */
  iterations: number;
  in_flight: number;
  /** Calls in flight before anything is timed. */
  warm_up: number;
}

export async function measureMcpHttp(options: McpHttpOptions): Promise<McpHttpSamples> {
  const initialize: number[] = [];
  for (let opened = 0; opened < SESSIONS_OPENED; opened++) {
    const client = new RawMcpClient(options.url, 1);
    initialize.push(await client.initialize());
    client.close();
  }
  const client = new RawMcpClient(options.url, options.in_flight);
  try {
    await client.initialize();
    await timed(client, options, options.warm_up, options.in_flight);
    const sequential = await timed(client, options, options.iterations, 1);
    const in_flight = await timed(client, options, options.iterations, options.in_flight);
    return { initialize, sequential, in_flight };
  } finally {
    client.close();
  }
}

async function timed(client: RawMcpClient, options: McpHttpOptions, calls: number, inFlight: number) {
  const samples: number[] = [];
  let left = calls;
  const start = performance.now();
  const lane = async () => {
    while (left-- > 0) {
      const sent = performance.now();
      await client.call(options.tool, options.input);
      samples.push(performance.now() - sent);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  const seconds = (performance.now() - start) / 1000;
  return { samples, calls_per_second: Math.round(samples.length / seconds) };
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
      input: { type: 'string', default: '{"scope":"local"}' },
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
    const iterations = Number(values.iterations);
    const in_flight = Number(values['in-flight']);
    const measured = await measureMcpHttp({
      url,
      tool: values.tool,
      input: JSON.parse(values.input) as JsonObject,
      iterations,
      in_flight,
      warm_up: Math.min(WARM_UP_CALLS, iterations),
    });
    const figures = {
      initialize: percentilesOf(measured.initialize),
      sequential: figuresOf(measured.sequential),
      in_flight: { calls: in_flight, ...figuresOf(measured.in_flight) },
    };
    if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(figures, null, 2)}\n`);
    process.stdout.write(`initialize            p50 ${shown(figures.initialize.p50)}\n`);
    process.stdout.write(line('sequential', figures.sequential));
    process.stdout.write(line(`${in_flight} in flight`, figures.in_flight));
  } finally {
    server?.disconnect();
  }
}

type CallFigures = Percentiles & { calls_per_second: number };

function figuresOf({ samples, calls_per_second }: TimedCalls): CallFigures {
  return { calls_per_second, ...percentilesOf(samples) };
}

function line(name: string, { calls_per_second, p50, p95, p99 }: CallFigures): string {
  return `${name.padEnd(20)}  p50 ${shown(p50)}, p95 ${shown(p95)}, p99 ${shown(p99)}, ${calls_per_second} calls/s\n`;
}

function shown(ms: number | null): string {
  return ms === null ? '–' : `${ms.toFixed(3)} ms`;
}

if (import.meta.main) await main();
