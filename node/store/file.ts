/**
 * The data file of a peer: its format, how one is made and how one is opened.
 *
 * A file under its final name is always complete: it is made under another name and renamed. So a file that is
 * empty, foreign or cut short is damage and never taken for a new one.
 */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { FeedHead } from '../../scheduler/ports.ts';
import { makePrivateDatabase, PRIVATE_FOLDER_MODE } from '../private-file.ts';
import {
  DataFolderCorruptError,
  DataFolderNewerError,
  DataFolderOlderError,
  DataFolderUnreadableError,
  DiskFullError,
  StoreFailedError,
  storeError,
} from './errors.ts';
import type { FeedHeads } from './feed-heads.ts';
import { LOCK_WAIT_MS, LOG_FILE_BYTES_KEPT } from './limits.ts';
import { FORMAT_VERSION, SCHEMA, UPGRADES } from './schema.ts';

/** "flow" in ASCII: tells a peer's file from any other SQLite file. */
const APPLICATION_ID = 0x666c6f77;
const PAGE_BYTES = 4096;

export interface OpenOptions {
  /** Size that the data file may reach; a commit over it fails as on a full disk. Default: no limit but the disk. */
  max_bytes?: number | undefined;
}

/**
 * Opens the data file for writing, made with its folder when there is none, after checking the whole of it.
 *
 * @throws DataFolderCorruptError, DataFolderOlderError, DataFolderNewerError, DataFolderUnreadableError,
 *   DiskFullError, StoreFailedError
 */
export function openForWriting(path: string, options: OpenOptions = {}): DatabaseSync {
  return guarded(path, () => {
    makeFolder(dirname(path));
    if (existsSync(path)) makePrivateDatabase(path);
    else makeFile(path);
    return opened(path, false, (database) => {
      upgrade(database);
      checkFormat(database, path);
      const mode = database.prepare('PRAGMA journal_mode = WAL').get()?.['journal_mode'];
      if (mode !== 'wal') {
        throw new StoreFailedError(path, `its file system cannot share memory between connections (mode ${mode}).`, {
          retryable: false,
        });
      }
      // The writer checkpoints between commits; SQLite's own checkpoint inside a commit is the last resort.
      database.exec(
        `PRAGMA synchronous = FULL; PRAGMA journal_size_limit = ${LOG_FILE_BYTES_KEPT}; PRAGMA wal_autocheckpoint = ${(4 * LOG_FILE_BYTES_KEPT) / PAGE_BYTES}`,
      );
      if (options.max_bytes !== undefined) {
        database.exec(`PRAGMA max_page_count = ${Math.max(1, Math.floor(options.max_bytes / PAGE_BYTES))}`);
      }
      const found = database.prepare('PRAGMA quick_check(1)').get()?.['quick_check'];
      if (found !== 'ok') throw new DataFolderCorruptError(path, String(found));
    });
  });
}

/**
 * Opens a data file that a writer made, for reading only.
 *
 * @throws as `openForWriting`
 */
export function openForReading(path: string): DatabaseSync {
  return guarded(path, () => opened(path, true, (database) => checkFormat(database, path)));
}

/** The heads of all feeds in the file. */
export function readHeads(database: DatabaseSync): FeedHeads {
  const found = database.prepare('SELECT feed_id, epoch, seq, owned FROM feeds').all();
  return new Map(
    found.map(({ feed_id, epoch, seq, owned }): [string, FeedHead] => [
      String(feed_id),
      { epoch: Number(epoch), seq: Number(seq), owned: owned === 1 },
    ]),
  );
}

function opened(path: string, readOnly: boolean, prepare: (database: DatabaseSync) => void): DatabaseSync {
  const database = new DatabaseSync(path, { readOnly, timeout: LOCK_WAIT_MS });
  try {
    prepare(database);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function checkFormat(database: DatabaseSync, path: string): void {
  const application = database.prepare('PRAGMA application_id').get()?.['application_id'];
  if (application !== APPLICATION_ID) throw new DataFolderCorruptError(path, 'it is not a data file of flowmesh');
  const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
  if (version > FORMAT_VERSION) throw new DataFolderNewerError(path, version, FORMAT_VERSION);
  if (version < 1) throw new DataFolderCorruptError(path, `it has the impossible format ${version}`);
  if (version < FORMAT_VERSION) throw new DataFolderOlderError(path, version, FORMAT_VERSION);
}

/** Makes the format of this version of a file of an earlier one; leaves others to `checkFormat`. */
function upgrade(database: DatabaseSync): void {
  if (database.prepare('PRAGMA application_id').get()?.['application_id'] !== APPLICATION_ID) return;
  for (;;) {
    const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
    const change = UPGRADES.get(version);
    if (change === undefined) return;
    database.exec(`PRAGMA synchronous = FULL; BEGIN; ${change}; PRAGMA user_version = ${version + 1}; COMMIT`);
  }
}

function makeFile(path: string): void {
  const unfinished = `${path}.new`;
  // Left by a start that was killed here; nothing in it was ever promised.
  rmSync(unfinished, { force: true });
  rmSync(`${unfinished}-journal`, { force: true });
  makePrivateDatabase(unfinished);
  const database = new DatabaseSync(unfinished);
  try {
    database.exec(`PRAGMA page_size = ${PAGE_BYTES}; PRAGMA synchronous = FULL; BEGIN; ${SCHEMA}`);
    database.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${FORMAT_VERSION}; COMMIT`);
  } finally {
    database.close();
  }
  renameSync(unfinished, path);
  syncFolder(dirname(path));
}

/** P1: a folder made here must survive a power cut as its file does, so its name is fsynced in its parent. */
function makeFolder(folder: string): void {
  const first = mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER_MODE });
  if (first === undefined) return;
  for (let made = folder; made.length >= first.length; made = dirname(made)) syncFolder(dirname(made));
}

function syncFolder(folder: string): void {
  const descriptor = openSync(folder, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Runs `open`; when the file system is why it failed, the error says which right or file is the problem. */
function guarded<T>(path: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    const known = storeError(error, path, 'opening');
    if (known instanceof DataFolderCorruptError || known instanceof DiskFullError) throw known;
    const problem = accessProblem(path);
    if (problem !== null) throw new DataFolderUnreadableError(path, problem, error);
    throw known;
  }
}

function accessProblem(path: string): string | null {
  const folder = dirname(path);
  try {
    if (!statSync(folder).isDirectory()) return `${folder} is not a folder`;
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    if (!statSync(path).isFile()) return 'it is not a file';
    accessSync(path, constants.R_OK | constants.W_OK);
    return null;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return 'there is no such file';
    if (code === 'ENOTDIR') return `a part of ${folder} is not a folder`;
    return message;
  }
}
