/**
 * What a careful MCP client does with several peers: it asks one, and when that does not answer, another one. A
 * submit that was not answered is sent again with the same id and content, so that it is accepted once.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { type JsonObject, RemoteError } from '../../dag/errors.ts';
import { errorSchema } from '../../scheduler/records.ts';
import type { PeerProcess } from '../harness/processes.ts';
import type { SeededRandom } from '../simulation/world.ts';

/** Before a peer is taken to be down. */
const ANSWER_WAIT_MS = 10_000;
const RETRY_MS = 200;
const ASK_AGAIN_INITIAL_MS = 500;
const ASK_AGAIN_MAX_MS = 4_000;
/** Errors that say that the client itself is wrong. */
const CLIENT_ERRORS = new Set(['INVALID_INPUT', 'CONFLICT']);

export interface Answered {
  answer: JsonObject;
  by: PeerProcess;
  /** Calls, the answered one included. */
  tries: number;
}

export class RoamingClient implements AsyncDisposable {
  readonly #peers: readonly PeerProcess[];
  readonly #random: SeededRandom;
  readonly #sessions = new Map<PeerProcess, Promise<Client>>();

  constructor(peers: readonly PeerProcess[], random: SeededRandom) {
    this.#peers = peers;
    this.#random = random;
  }

  /** One call of a tool at one peer. @throws RemoteError for the tool's error, else what went wrong on the way */
  async call(peer: PeerProcess, tool: string, input: JsonObject): Promise<JsonObject> {
    const session = this.#sessions.get(peer) ?? open(peer.url);
    this.#sessions.set(peer, session);
    let output: JsonObject;
    try {
      const client = await session;
      const result = await client.callTool({ name: tool, arguments: input }, undefined, { timeout: ANSWER_WAIT_MS });
      output = result.structuredContent as JsonObject;
    } catch (error) {
      // Peers that start again know no earlier sessions.
      if (this.#sessions.get(peer) === session) this.#sessions.delete(peer);
      void close(session);
      throw error;
    }
    if (output['success'] !== true) throw new RemoteError(errorSchema.parse(output['error']) as RemoteError);
    return output;
  }

  /** Calls one random peer after the other until one answers. @throws when none did in time, or the call is wrong */
  async anywhere(tool: string, input: JsonObject, deadline: () => number): Promise<Answered> {
    const refusals = new Map<string, number>();
    for (let tries = 1; ; tries++) {
      const by = this.#random.pick(this.#peers);
      try {
        return { answer: await this.call(by, tool, input), by, tries };
      } catch (error) {
        const isOwnFault = error instanceof RemoteError && CLIENT_ERRORS.has(error.code);
        if (isOwnFault) throw error;
        const refusal = `peer ${by.index}: ${(error as Error).message}`;
        refusals.set(refusal, (refusals.get(refusal) ?? 0) + 1);
        if (performance.now() > deadline()) throw new Error(`no peer answered: ${listed(refusals)}`, { cause: error });
        await delay(RETRY_MS);
      }
    }
  }

  /** Asks random peers until `until` gives something. @throws when it did not in time */
  async ask<T>(
    tool: string,
    input: JsonObject,
    until: (answer: JsonObject) => T | undefined,
    deadline: number,
  ): Promise<T> {
    for (let waitMs = ASK_AGAIN_INITIAL_MS; ; waitMs = Math.min(2 * waitMs, ASK_AGAIN_MAX_MS)) {
      await delay(waitMs);
      const { answer } = await this.anywhere(tool, input, () => deadline);
      const found = until(answer);
      if (found !== undefined) return found;
      if (performance.now() > deadline) throw new Error(`${tool} still says: ${JSON.stringify(answer).slice(0, 200)}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#sessions.values()].map(close));
  }
}

function listed(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([what, times]) => `${times} times ${what}`).join('; ');
}

async function open(url: string): Promise<Client> {
  const client = new Client({ name: 'flowmesh-chaos', version: '1.0.0' });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${url}/mcp`)), { timeout: ANSWER_WAIT_MS });
  return client;
}

async function close(session: Promise<Client>): Promise<void> {
  try {
    await (await session).close();
  } catch {
    // It never opened, or its peer is gone: there is nothing to end.
  }
}
