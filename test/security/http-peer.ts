/**
 * Whole peers of one secured mesh in this process that ask who calls over HTTP, and callers:
 *
 *   await using mesh = await HttpPeers.of(['a', 'b'], { jwt: … });
 *   const key = await mesh.key('ci', { role: 'readonly' });
 *   const caller = mesh.caller('a', key);
 *   await caller.call('task_list', {});               // { status, code, output }
 *   await mesh.unchanged(() => caller.call('queue_clear', {}));
 */
import { mkdtemp, rm } from 'node:fs/promises';
import type { OutgoingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { z } from 'zod';
import type { JsonObject } from '../../dag/errors.ts';
import type { authSchema } from '../../node/config/auth.ts';
import { configSchema } from '../../node/config/settings.ts';
import { foundMesh } from '../../node/membership/authority.ts';
import { readToken } from '../../node/membership/token.ts';
import { loadIdentity } from '../../node/p2p/identity.ts';
import { joinMesh } from '../../node/p2p/join.ts';
import { type RunningPeer, startPeer } from '../../node/peer.ts';
import { readLines } from '../audit/trail-folder.ts';
import { eventually } from '../harness/eventually.ts';
import { testLog } from '../harness/log.ts';
import { INITIALIZE, postMcp, type RawAnswer, rawRequest } from '../mcp/raw-http.ts';
import { stateOf } from './secured-mesh.ts';

type Config = Partial<z.input<typeof configSchema>>;

/** What somebody is told. */
export interface Told {
  status: number;
  /** Of the error; undefined where there is none. */
  code: string | undefined;
  message: string;
  /** Of a tool, or the body of a plain route. */
  output: JsonObject;
  answer: RawAnswer;
}

export class HttpPeers implements AsyncDisposable {
  readonly #folder: string;
  readonly #peers = new Map<string, RunningPeer>();

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** The first name founds the mesh, the others join it. */
  static async of(
    names: readonly string[],
    auth: z.input<typeof authSchema> = {},
    config: Config = {},
  ): Promise<HttpPeers> {
    const peers = new HttpPeers(await mkdtemp(join(tmpdir(), 'flowmesh-http-')));
    try {
      for (const name of names) await peers.#start(name, { ...config, auth });
      return peers;
    } catch (error) {
      await peers[Symbol.asyncDispose]();
      throw error;
    }
  }

  peer(name: string): RunningPeer {
    return this.#peers.get(name)!;
  }

  get #founder(): RunningPeer | undefined {
    return this.#peers.values().next().value;
  }

  async #start(name: string, config: Config): Promise<void> {
    const log = testLog(name);
    const dataDir = join(this.#folder, name);
    const founder = this.#founder?.mesh;
    const own = { dataDir, identity: await loadIdentity(dataDir, log), now: Date.now, log, name };
    if (founder === undefined) foundMesh({ ...own, mesh_name: 'home' }).close();
    else {
      const { token } = await founder!.meshRequest('invite', { addresses: founder!.network.addresses() });
      (await joinMesh({ ...own, token: readToken(String(token)) })).close();
    }
    const common = { mesh: 'home', runtime: 'inline', mdns: false, listen: ['/ip4/127.0.0.1/tcp/0'] } as const;
    const peer = await startPeer(
      configSchema.parse({ ...common, http: { port: 0 }, ...config, name, data_dir: dataDir }),
      log,
    );
    this.#peers.set(name, peer);
    if (founder === undefined) return;
    const there = () => peer.mesh!.network.connected().includes(founder!.network.self);
    await eventually(`${name} is connected`, there);
  }

  /** Makes a key at the founder, which all peers know when this resolves. */
  async key(name: string, rights: { role?: string; permits?: string[]; ttl_ms?: number }): Promise<string> {
    const made = await this.#founder!.mesh!.meshRequest('key_create', { name, ...rights });
    const key = String(made['key']);
    for (const peer of this.#peers.keys()) {
      const known = async () => (await this.caller(peer, key).get('/ready')).code !== 'TOKEN_INVALID';
      await eventually(`${peer} knows the key ${name}`, known);
    }
    return key;
  }

  /** Ends a key at the founder. */
  async revoke(name: string): Promise<void> {
    await this.#founder!.mesh!.meshRequest('key_revoke', { name });
  }

  /** Somebody at a peer. @param shown a token, or whole headers */
  caller(peer: string, shown?: string | OutgoingHttpHeaders): Caller {
    const headers = typeof shown === 'string' ? { authorization: `Bearer ${shown}` } : (shown ?? {});
    return new Caller(this.peer(peer).http_url!, headers);
  }

  /** Checks that what is done changes nothing at any peer. */
  async unchanged<T>(work: () => Promise<T>): Promise<T> {
    const before = await this.#atRest();
    const output = await work();
    expect(await this.#states()).toEqual(before);
    return output;
  }

  /** What `work` does, and the lines that it leaves in the trail of a peer, up to one that the test asks for. */
  async trailOf<T>(peer: string, work: () => Promise<T>): Promise<{ output: T; lines: Record<string, unknown>[] }> {
    const { config, admin_key } = this.peer(peer);
    const id = String(performance.now());
    const marked = async (mark: string) => {
      await this.caller(peer, admin_key).get(mark);
      return await eventually('the mark is in the trail', async () => {
        const lines = await readLines(join(config.data_dir, 'audit'));
        const at = lines.findIndex(({ route }) => route === `GET ${mark}`);
        return at !== -1 && { lines, at };
      });
    };
    const { at: from } = await marked(`/begin-${id}`);
    const output = await work();
    const { lines, at: to } = await marked(`/end-${id}`);
    return { output, lines: lines.slice(from + 1, to) };
  }

  /** Refusals of one peer leave one line each in its trail, and nothing else anywhere. */
  async refused<T>(peer: string, codes: readonly string[], work: () => Promise<T>): Promise<T> {
    const { output, lines } = await this.trailOf(peer, () => this.unchanged(work));
    expect(lines.map(({ outcome }) => outcome).sort()).toEqual([...codes].sort());
    return output;
  }

  /** When what was done before has come to its end, on all disks. */
  async #atRest(): Promise<JsonObject[]> {
    let before = await this.#states();
    return await eventually('nothing goes on', async () => {
      const now = await this.#states();
      const rests = JSON.stringify(now) === JSON.stringify(before) && now.every(({ running }) => running === 0);
      before = now;
      return rests && now;
    });
  }

  #states(): Promise<JsonObject[]> {
    return Promise.all(Array.from(this.#peers.values(), ({ mesh }) => stateOf(mesh!)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(Array.from(this.#peers.values(), (peer) => peer.stop()));
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Who sends requests to a peer, with the same headers each; it opens its session with the first call. */
export class Caller {
  readonly #url: string;
  readonly #headers: OutgoingHttpHeaders;
  #session: string | undefined;
  #lastId = 1;

  constructor(url: string, headers: OutgoingHttpHeaders) {
    this.#url = url;
    this.#headers = headers;
  }

  async get(path: string, headers: OutgoingHttpHeaders = {}): Promise<Told> {
    return toldBy(await rawRequest(this.#url + path, { headers: { ...this.#headers, ...headers } }));
  }

  async post(path: string, body: unknown = {}, headers: OutgoingHttpHeaders = {}): Promise<Told> {
    const sent = { ...this.#headers, 'content-type': 'application/json', ...headers };
    return toldBy(await rawRequest(this.#url + path, { method: 'POST', headers: sent, body: JSON.stringify(body) }));
  }

  /** Opens a session. */
  async initialize(): Promise<Told> {
    const told = toldBy(await postMcp(this.#url, INITIALIZE, this.#headers));
    const id = told.answer.headers['mcp-session-id'];
    if (typeof id === 'string') this.#session = id;
    return told;
  }

  /** Calls a tool. */
  async call(name: string, input: JsonObject = {}): Promise<Told> {
    return this.rpc('tools/call', { name, arguments: input });
  }

  /** Submits a task, and waits for its end where it was taken. */
  async runTask(): Promise<Told> {
    const told = await this.call('task_submit', { task_type: 'echo', payload: {} });
    const task_id = told.output['task_id'] as string | undefined;
    if (task_id !== undefined) {
      const ended = async () => (await this.call('task_status', { task_id })).output['status'] === 'completed';
      await eventually('the task has ended', ended);
    }
    return told;
  }

  async rpc(method: string, params: JsonObject = {}): Promise<Told> {
    if (this.#session === undefined) {
      const opened = await this.initialize();
      if (opened.status !== 200) return opened;
    }
    const message = { jsonrpc: '2.0', id: ++this.#lastId, method, params };
    return toldBy(await postMcp(this.#url, message, { ...this.#headers, 'mcp-session-id': this.#session! }));
  }

  /** Goes on in the session of another one. */
  resume(other: Caller): this {
    this.#session = other.#session;
    return this;
  }
}

function toldBy(answer: RawAnswer): Told {
  const isStream = answer.headers['content-type']?.startsWith('text/event-stream') ?? false;
  const text = isStream ? (/^data: (\{.*)$/m.exec(answer.text)?.[1] ?? '{}') : answer.text;
  const body = (text === '' ? {} : JSON.parse(text)) as JsonObject;
  const result = body['result'] as JsonObject | undefined;
  const output = (result?.['structuredContent'] as JsonObject | undefined) ?? result ?? body;
  const error = (output['error'] ?? body['error']) as { code?: unknown; message?: string; data?: { code?: string } };
  const code = error?.data?.code ?? (error === undefined ? undefined : String(error.code));
  return { status: answer.status, code, message: error?.message ?? '', output, answer };
}
