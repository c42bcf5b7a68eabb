/**
 * Which peer a command talks to: `--url`, `--data-dir`, or else `FLOWMESH_URL` or `FLOWMESH_DATA_DIR` name one; with
 * `--mesh`, or without any of them, it is the first that runs on this machine, of the mesh that `--mesh`,
 * `FLOWMESH_MESH` or ./bootstrap.json name, else of any.
 */
import { resolve } from 'node:path';
import { flowmeshHome, type PeerRecord, runningPeer, runningPeers } from '../data-folder.ts';
import type { PeerAddress } from './client.ts';
import { PeerUnreachableError, UsageError } from './exit.ts';
import { localMeshFile } from './mesh-file.ts';

export interface PeerChoice {
  url?: string | undefined;
  dataDir?: string | undefined;
  mesh?: string | undefined;
}

export interface FoundPeer extends PeerAddress {
  /** What its data folder says; undefined for one that was named by its URL. */
  record: PeerRecord | undefined;
}

type Environment = Record<string, string | undefined>;

const HOW_TO_START = 'Start one with: flowmesh node start --bootstrap';
const HOW_TO_NAME = 'name one with --url or --data-dir (FLOWMESH_URL, FLOWMESH_DATA_DIR)';

/** @throws PeerUnreachableError when there is none, UsageError for a URL that is none */
export async function findPeer(choice: PeerChoice, env: Environment, cwd: string): Promise<FoundPeer> {
  const home = flowmeshHome(env);
  if (choice.url !== undefined) return atUrl(baseUrl('--url', choice.url), home, env);
  if (choice.dataDir !== undefined) return inFolder(resolve(cwd, choice.dataDir), env);
  if (choice.mesh === undefined) {
    const url = env['FLOWMESH_URL'];
    if (url) return atUrl(baseUrl('FLOWMESH_URL', url), home, env);
    const dataDir = env['FLOWMESH_DATA_DIR'];
    if (dataDir) return inFolder(resolve(cwd, dataDir), env);
  }

  const named = await namedMesh(choice, env, cwd);
  const mesh = named?.mesh;
  const peers = (await runningPeers(home, mesh)).map(({ record }) => record);
  const found = peers.find((record) => record.http_url !== null);
  if (found !== undefined) return recorded(found, env);
  if (peers[0] !== undefined) throw withoutHttp(peers[0]);
  const which = named === undefined ? '' : ` of mesh "${named.mesh}", which ${named.by} names,`;
  const others = named === undefined ? '' : await otherMeshes(home, named.mesh);
  throw new PeerUnreachableError(
    `no peer${which} runs on this machine (looked in ${home}).${others} ${HOW_TO_START}; or ${HOW_TO_NAME}`,
  );
}

async function namedMesh(
  choice: PeerChoice,
  env: Environment,
  cwd: string,
): Promise<{ mesh: string; by: string } | undefined> {
  if (choice.mesh !== undefined) return { mesh: choice.mesh, by: '--mesh' };
  const variable = env['FLOWMESH_MESH'];
  if (variable) return { mesh: variable, by: 'FLOWMESH_MESH' };
  const mesh = await meshOfFolder(cwd);
  return mesh === undefined ? undefined : { mesh, by: localMeshFile(cwd)! };
}

/** Peers that run here in another mesh than the one that was looked for: it may have been named without intent. */
async function otherMeshes(home: string, mesh: string): Promise<string> {
  const running = new Set((await runningPeers(home, undefined)).map(({ record }) => record.mesh));
  running.delete(mesh);
  if (running.size === 0) return '';
  const ways = [...running].map((name) => `--mesh ${name}`).join(' or ');
  return ` Peers of other meshes do: add ${ways} to talk to them.`;
}

async function inFolder(path: string, env: Environment): Promise<FoundPeer> {
  const record = await runningPeer(path);
  if (record === undefined) {
    throw new PeerUnreachableError(
      `no peer runs in the data folder ${path}. Start one with: flowmesh node start --data-dir ${path}; or ${HOW_TO_NAME}`,
    );
  }
  if (record.http_url === null) throw withoutHttp(record);
  return recorded(record, env);
}

function recorded(record: PeerRecord, env: Environment): FoundPeer {
  return { ...addressOf(record, baseUrl('peer.json', record.http_url!), env), record };
}

/** By its URL, a peer of this machine is known by its certificate and knows its user, too. */
async function atUrl(url: string, home: string, env: Environment): Promise<FoundPeer> {
  const own = (await runningPeers(home, undefined)).find(({ record }) => record.http_url === url);
  return { ...addressOf(own?.record, url, env), record: undefined };
}

/** How a peer is talked to: it is shown the key or token of the environment, else that by which it knows its user. */
export function addressOf(record: PeerRecord | undefined, url: string, env: Environment): PeerAddress {
  const token = env['FLOWMESH_API_KEY']?.trim() || record?.admin_key || undefined;
  return { url, tls_cert: record?.tls_cert, token };
}

function withoutHttp(record: PeerRecord): PeerUnreachableError {
  const why = record.peer_id === null ? 'is still starting: try again in a moment' : 'was started with --no-http';
  return new PeerUnreachableError(`peer ${record.name} (process ${record.pid}) ${why}`);
}

/** The mesh that the working folder's mesh file names; a file that cannot be read is the starting peer's problem. */
async function meshOfFolder(cwd: string): Promise<string | undefined> {
  const path = localMeshFile(cwd);
  if (path === undefined) return undefined;
  const { readFile } = await import('node:fs/promises');
  try {
    const { mesh } = JSON.parse(await readFile(path, 'utf8')) as { mesh?: unknown };
    return typeof mesh === 'string' ? mesh : undefined;
  } catch {
    // `node start` says what is wrong with the file; to find a peer it is only a preference.
    return undefined;
  }
}

function baseUrl(source: string, value: string): string {
  let url: URL;
  try {
    url = new URL(/^[a-z]+:\/\//.test(value) ? value : `http://${value}`);
  } catch (cause) {
    throw new UsageError(`${source}: "${value}" is not a URL such as http://127.0.0.1:7601`, { cause });
  }
  if (!['http:', 'https:'].includes(url.protocol)) {
    throw new UsageError(`${source}: "${value}" must start with http:// or https://`);
  }
  return url.href.replace(/\/(mcp)?\/?$/, '');
}
