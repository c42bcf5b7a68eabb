/**
 * Whole peers of one secured mesh in this process, each with its own folder, and members that lie:
 *
 *   await using mesh = await SecuredMesh.of({ takeover_ms: 60_000 }, ['a', 'b']);
 *   const liar = await mesh.liar(['work']);
 */

import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { z } from 'zod';
import type { JsonObject } from '../../dag/errors.ts';
import { configSchema } from '../../node/config/settings.ts';
import { foundMesh } from '../../node/membership/authority.ts';
import type { Membership } from '../../node/membership/membership.ts';
import { readToken } from '../../node/membership/token.ts';
import { loadIdentity } from '../../node/p2p/identity.ts';
import { joinMesh } from '../../node/p2p/join.ts';
import { type Mesh, startMesh } from '../../node/runtimes/mesh.ts';
import { EVERYBODY } from '../../scheduler/caller.ts';
import type { Role } from '../../scheduler/roles.ts';
import { eventually } from '../harness/eventually.ts';
import { testLog } from '../harness/log.ts';
import { LyingMember } from './member.ts';

type ConfigOverrides = Partial<z.input<typeof configSchema>>;
const ALL_BYTES = 1024 * 1024 * 1024;
const CALL_MS = 60_000;
const LISTEN = ['/ip4/127.0.0.1/tcp/0'];

export interface Invited {
  roles?: Role[];
  relay?: boolean;
  uses?: number;
  for_peer?: string;
}

export class SecuredMesh implements AsyncDisposable {
  readonly root: string;
  readonly peers = new Map<string, Mesh>();
  readonly #config: ConfigOverrides;
  readonly #liars: LyingMember[] = [];

  private constructor(root: string, config: ConfigOverrides) {
    this.root = root;
    this.#config = config;
  }

  /** The first name founds the mesh; the others join, and all are connected. */
  static async of(config: ConfigOverrides, [founder, ...others]: string[]): Promise<SecuredMesh> {
    const mesh = new SecuredMesh(await mkdtemp(join(tmpdir(), 'flowmesh-secured-')), config);
    try {
      const dataDir = join(mesh.root, founder!);
      const log = testLog(founder!);
      const identity = await loadIdentity(dataDir, log);
      foundMesh({ dataDir, identity, mesh_name: 'home', name: founder!, now: Date.now, log }).close();
      await mesh.#start(founder!, dataDir);
      for (const name of others) await mesh.join(name);
      return mesh;
    } catch (error) {
      await mesh[Symbol.asyncDispose]();
      throw error;
    }
  }

  peer(name: string): Mesh {
    return this.peers.get(name)!;
  }

  get founder(): Mesh {
    return this.peers.values().next().value!;
  }

  /** An honest peer, connected to the founder. */
  async join(name: string, invited: Invited = {}, config: ConfigOverrides = {}): Promise<Mesh> {
    const dataDir = join(this.root, name);
    (await this.#redeem(dataDir, name, invited)).close();
    const peer = await this.#start(name, dataDir, config);
    await eventually(`${name} is connected`, () => peer.network.connected().includes(this.founder.network.self));
    return peer;
  }

  /** A member that lies. It is not connected to anybody. */
  async liar(roles: Role[] = ['submit', 'work', 'replicate'], listen = false): Promise<LyingMember> {
    const name = `liar-${this.#liars.length}`;
    const membership = await this.#redeem(join(this.root, name), name, { roles });
    const liar = await LyingMember.start(membership, listen ? LISTEN : []);
    this.#liars.push(liar);
    return liar;
  }

  async token({
    roles = ['submit', 'work', 'replicate'],
    relay = true,
    uses = 1,
    for_peer,
  }: Invited = {}): Promise<string> {
    const wanted = { roles, relay, uses, for_peer: for_peer ?? null, addresses: this.founder.network.addresses() };
    return String((await this.founder.meshRequest('invite', wanted))['token']);
  }

  async #redeem(dataDir: string, name: string, invited: Invited): Promise<Membership> {
    const log = testLog(name);
    const identity = await loadIdentity(dataDir, log);
    const token = readToken(await this.token(invited));
    return await joinMesh({ dataDir, identity, token, name, now: Date.now, log });
  }

  async #start(name: string, data_dir: string, own: ConfigOverrides = {}): Promise<Mesh> {
    const common = { mesh: 'home', runtime: 'inline', http: null, mdns: false, listen: LISTEN } as const;
    const config = configSchema.parse({ ...common, ...this.#config, ...own, name, data_dir });
    const peer = await startMesh(config, testLog(name));
    this.peers.set(name, peer);
    return peer;
  }

  /** Leaves as a crash would. */
  async kill(name: string): Promise<void> {
    const peer = this.peer(name);
    this.peers.delete(name);
    await peer.stop({ handOver: false });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#liars.map((liar) => liar.close()));
    await Promise.allSettled(Array.from(this.peers.values(), (peer) => peer.stop()));
    await rm(this.root, { recursive: true, force: true });
  }
}

export function call(peer: Mesh, tool: string, input: JsonObject): Promise<JsonObject> {
  return peer.call(tool, input, { signal: new AbortController().signal, deadlineMs: CALL_MS, caller: EVERYBODY });
}

function digestOf(record: object): string {
  return createHash('sha256').update(JSON.stringify(record)).digest('base64url').slice(0, 16);
}

/** Everything that an attack could change at a peer, but for who is connected to it. */
export async function stateOf(peer: Mesh): Promise<JsonObject> {
  const { store, scheduler, network } = peer;
  const { feeds, followed, pool } = scheduler.parts;
  const rows: JsonObject = {};
  for (const [feedId, head] of store.feeds) {
    const all = await store.reader.changes(feedId, { seq: 0, uid: '' }, ALL_BYTES);
    const kept = all.map(({ uid, seq, record }) => [uid, `${seq} ${digestOf(record)}`]);
    rows[feedId] = { ...head, rows: Object.fromEntries(kept) };
  }
  const { members } = (await peer.meshRequest('members', {})) as { members: { peer_id: string; state: string }[] };
  return {
    rows,
    owned: feeds.all().map(({ feed_id }) => feed_id),
    copies: Array.from(followed.all(), ({ feed_id, cursor }) => [feed_id, cursor]),
    counts: feeds.counts as unknown as JsonObject,
    running: pool.running,
    workers: pool.states(null).length,
    members: members.map(({ peer_id, state }) => `${peer_id} ${state}`).sort(),
    // When members hear of each other is theirs.
    known: network.list().flatMap(({ peer_id }) => (members.some((each) => each.peer_id === peer_id) ? [] : [peer_id])),
  } as unknown as JsonObject;
}
