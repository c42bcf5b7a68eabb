/**
 * A peer's own folder on disk: taken by one process at a time, and the place where the command line finds the peer.
 *
 *   ~/.flowmesh/<mesh>/peer-1/   one peer's data; FLOWMESH_HOME is another place for ~/.flowmesh
 *     lock                       held while a process uses the folder
 *     peer.json                  what that process is: pid, peer id, addresses (`PeerRecord`)
 *   ~/.flowmesh/.ports/          held while a peer uses a port that it chose by itself
 *
 * Invariants:
 *   1. A lock ends with its process, however that ends: it is a lock of the operating system (SQLite's exclusive
 *      transaction on a file), not a file that says so.
 *   2. `peer.json` means nothing unless the lock is held: one that a killed process left is ignored.
 *   3. Lock files are never removed: removing one while another process opens it would let both hold "the" lock.
 *
 *   const folder = await claimDataFolder({ home: flowmeshHome(process.env), mesh: 'default', explicit: undefined });
 */
import { access, constants, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { z } from 'zod';
import { FlowmeshError } from '../dag/errors.ts';
import { isOpenToOthers, makePrivateDatabase, PRIVATE_FILE_MODE, PRIVATE_FOLDER_MODE } from './private-file.ts';

/** Default folders tried before giving up. */
const FOLDERS_TRIED_MAX = 256;
/** A reader that looks whether a lock is held has it for microseconds: how long a taker waits such readers out. */
const LOCK_WAIT_MS = 250;

const peerRecordSchema = z.object({
  pid: z.int(),
  mesh: z.string(),
  name: z.string(),
  version: z.string(),
  started_at: z.string(),
  /** Null while the peer starts. */
  peer_id: z.string().nullable(),
  http_url: z.string().nullable(),
  addresses: z.array(z.string()),
  /** The file of its certificate, with which it is known on this machine; null without HTTPS. */
  tls_cert: z.string().nullable().default(null),
  /** For what only this user may ask of it; the file is this user's alone. */
  admin_key: z.string().nullable().default(null),
});
/** What a running peer says of itself in `peer.json`. */
export type PeerRecord = z.infer<typeof peerRecordSchema>;

/** Another process uses the folder that was asked for. */
export class DataFolderInUseError extends FlowmeshError {
  constructor(path: string, pid: number | undefined) {
    const who = pid === undefined ? 'another process' : `process ${pid}`;
    super('DATA_FOLDER_IN_USE', `the data folder ${path} is in use by ${who}: stop it, or give another --data-dir`, {
      retryable: true,
      details: pid === undefined ? { path } : { path, pid },
    });
  }
}

/** The folder cannot be made, read or written. */
export class DataFolderUnusableError extends FlowmeshError {
  /** @param options.remedy what to do, as the end of the sentence. Default: another folder */
  constructor(path: string, why: string, options: { remedy?: string; cause?: unknown } = {}) {
    const { remedy = 'give another --data-dir', cause } = options;
    super('DATA_FOLDER_UNUSABLE', `the data folder ${path} cannot be used: ${why}; ${remedy}`, {
      details: { path },
      cause,
    });
  }
}

/** A folder that this process holds until `release` or its end. */
export interface DataFolder {
  readonly path: string;
  /** Others than this peer's user can look into it. */
  readonly openToOthers: boolean;
  /** Writes `peer.json`, whole or not at all. */
  record(peer: PeerRecord): Promise<void>;
  /** Removes `peer.json` and lets the folder go. */
  release(): Promise<void>;
}

/** `FLOWMESH_HOME`, or `.flowmesh` in the user's home folder. */
export function flowmeshHome(env: Record<string, string | undefined>): string {
  const given = env['FLOWMESH_HOME'];
  return given === undefined || given === '' ? join(homedir(), '.flowmesh') : resolve(given);
}

/**
 * Takes the folder that was asked for, else the first default one that no process holds.
 *
 * @throws DataFolderInUseError when the explicit folder is held, DataFolderUnusableError when one cannot be written
 */
export async function claimDataFolder(options: {
  home: string;
  mesh: string;
  explicit: string | undefined;
}): Promise<DataFolder> {
  if (options.explicit !== undefined) {
    const path = resolve(options.explicit);
    const folder = await tryFolder(path);
    if (folder === undefined) throw new DataFolderInUseError(path, (await readRecord(path))?.pid);
    return folder;
  }
  const parent = join(options.home, options.mesh);
  for (let number = 1; number <= FOLDERS_TRIED_MAX; number++) {
    const folder = await tryFolder(join(parent, `peer-${number}`));
    if (folder !== undefined) return folder;
  }
  throw new DataFolderUnusableError(parent, `all of peer-1 to peer-${FOLDERS_TRIED_MAX} are in use`);
}

/** The running peer of a folder; undefined when no process holds it (a `peer.json` left behind means nothing). */
export async function runningPeer(path: string): Promise<PeerRecord | undefined> {
  const record = await readRecord(path);
  return record !== undefined && isLocked(lockFile(path)) ? record : undefined;
}

/** The running peers of a mesh (of all meshes when undefined) in their default folders, peer-1 first. */
export async function runningPeers(
  home: string,
  mesh: string | undefined,
): Promise<{ path: string; record: PeerRecord }[]> {
  const meshes = mesh === undefined ? (await foldersIn(home)).filter((name) => !name.startsWith('.')).sort() : [mesh];
  const found: { path: string; record: PeerRecord }[] = [];
  for (const each of meshes) {
    const folders = (await foldersIn(join(home, each))).filter((name) => /^peer-\d+$/.test(name));
    folders.sort((a, b) => Number(a.slice(5)) - Number(b.slice(5)));
    for (const folder of folders) {
      const path = join(home, each, folder);
      const record = await runningPeer(path);
      if (record !== undefined) found.push({ path, record });
    }
  }
  return found;
}

/**
 * Keeps other peers of this user from choosing a port between the moment it was found free and the moment it is
 * listened on. Undefined when another process has it.
 */
export async function claimPort(home: string, port: number): Promise<{ release(): void } | undefined> {
  const folder = join(home, '.ports');
  await makeFolder(folder);
  return takeLock(join(folder, `${port}.lock`), 0);
}

async function tryFolder(path: string): Promise<DataFolder | undefined> {
  await makeFolder(path);
  const lock = takeLock(lockFile(path), 0) ?? (await takeFromReader(path));
  if (lock === undefined) return undefined;
  const file = recordFile(path);
  try {
    // What a killed process left would otherwise be believed until this peer has written its own.
    await rm(file, { force: true });
  } catch (error) {
    lock.release();
    throw new DataFolderUnusableError(path, reasonOf(error), { cause: error });
  }
  return {
    path,
    openToOthers: isOpenToOthers(path),
    async record(peer) {
      const draft = `${file}.${process.pid}.tmp`;
      await writeFile(draft, `${JSON.stringify(peer, null, 2)}\n`, { mode: PRIVATE_FILE_MODE });
      await rename(draft, file);
    },
    async release() {
      await rm(file, { force: true });
      lock.release();
    },
  };
}

/** A second try for a lock that nobody who lives seems to hold: a reader may have been looking at it. */
async function takeFromReader(path: string): Promise<{ release(): void } | undefined> {
  const record = await readRecord(path);
  if (record !== undefined && isAlive(record.pid)) return undefined;
  return takeLock(lockFile(path), LOCK_WAIT_MS);
}

/** Undefined when another process holds it. The lock lasts until `release` or the end of this process. */
function takeLock(file: string, waitMs: number): { release(): void } | undefined {
  let database: DatabaseSync | undefined;
  try {
    makePrivateDatabase(file);
    database = new DatabaseSync(file, { timeout: waitMs });
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    if (isBusy(error)) return undefined;
    const why = `its lock file ${file} cannot be used (${reasonOf(error)})`;
    const remedy = 'remove that file while no peer runs there, it holds no data';
    throw new DataFolderUnusableError(dirname(file), why, { remedy, cause: error });
  }
  const held = database;
  // An unreachable connection would be collected, and its lock with it.
  heldLocks.add(held);
  return {
    release() {
      if (heldLocks.delete(held)) held.close();
    },
  };
}

const heldLocks = new Set<DatabaseSync>();

function isLocked(file: string): boolean {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file, { readOnly: true, timeout: 0 });
    database.prepare('SELECT count(*) FROM sqlite_schema').get();
    return false;
  } catch (error) {
    // A lock file that is missing or unreadable is one that no peer of this user holds.
    return isBusy(error);
  } finally {
    database?.close();
  }
}

const SQLITE_BUSY = 5;

function isBusy(error: unknown): boolean {
  return error instanceof Error && (error as { errcode?: number }).errcode === SQLITE_BUSY;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function readRecord(path: string): Promise<PeerRecord | undefined> {
  try {
    return peerRecordSchema.parse(JSON.parse(await readFile(recordFile(path), 'utf8')));
  } catch {
    // Missing, foreign or of another version: there is no peer here that can be talked to.
    return undefined;
  }
}

async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: PRIVATE_FOLDER_MODE });
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new DataFolderUnusableError(path, reasonOf(error), { cause: error });
  }
}

/** What else people keep beside these folders is passed over. */
async function foldersIn(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries.filter((entry) => !entry.isFile()).map(({ name }) => name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new DataFolderUnusableError(path, reasonOf(error), { cause: error });
  }
}

const REASONS: Record<string, string> = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  ENOTDIR: 'a part of the path is a file',
  EEXIST: 'there is a file of that name',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full',
};

function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  return REASONS[code] ?? (error instanceof Error ? error.message : String(error));
}

const lockFile = (path: string) => join(path, 'lock');
const recordFile = (path: string) => join(path, 'peer.json');

/** The name of a peer that was given none: where it runs and which of the peers there it is. */
export function defaultPeerName(hostname: string, folder: string): string {
  return `${hostname.split('.')[0]}-${basename(folder)}`.slice(0, 64);
}
