/**
 * What libp2p keeps on disk: the peers it met and the records of the DHT. All of it is found again on the way, so
 * nothing is synced to the disk, and a write that fails (a full disk) is forgotten and never costs this peer its
 * connections.
 *
 * SQLite and not LevelDB, which libp2p's own datastores offer: LevelDB leaves its files open in every process that
 * this one starts, for steps to read and write.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type { AbortOptions } from '@libp2p/interface';
import { BaseDatastore } from 'datastore-core';
import type { KeyQuery, Pair, Query } from 'interface-datastore';
import { Key } from 'interface-datastore/key';
import { NotFoundError } from 'interface-store';
import type { Log } from '../../scheduler/ports.ts';
import { DataFolderInUseError, DataFolderUnusableError } from '../data-folder.ts';
import { makePrivateDatabase } from '../private-file.ts';
import { rootReasonOf } from './errors.ts';

const FILE = 'libp2p.db';
/** What versions before this one kept it in. */
const FORMER_FOLDER = 'libp2p';
/** After every key that begins like another one. */
const LAST_CHARACTER = '\u{10ffff}';
const SQLITE_BUSY = 5;

/** @throws DataFolderInUseError, DataFolderUnusableError */
export async function openPeerMemory(dataDir: string, log: Log): Promise<PeerMemory> {
  const file = path.join(dataDir, FILE);
  await rm(path.join(dataDir, FORMER_FOLDER), { recursive: true, force: true });
  let database: DatabaseSync | undefined;
  try {
    makePrivateDatabase(file);
    database = new DatabaseSync(file);
    // Exclusive: two peers on one folder would be one peer twice.
    database.exec(
      'PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE IF NOT EXISTS pairs (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID',
    );
    return new PeerMemory(database, log);
  } catch (error) {
    database?.close();
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) throw new DataFolderInUseError(dataDir, undefined);
    const why = `what libp2p remembers in ${file} cannot be read (${rootReasonOf(error)})`;
    const remedy = 'move that file away, peers are found again';
    throw new DataFolderUnusableError(dataDir, why, { remedy, cause: error });
  }
}

export class PeerMemory extends BaseDatastore {
  readonly #database: DatabaseSync;
  readonly #log: Log;
  readonly #statements: Record<'get' | 'put' | 'delete' | 'pairs' | 'keys', StatementSync>;
  #failing = false;

  constructor(database: DatabaseSync, log: Log) {
    super();
    this.#database = database;
    this.#log = log;
    this.#statements = {
      get: database.prepare('SELECT value FROM pairs WHERE key = ?'),
      put: database.prepare('INSERT INTO pairs VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value'),
      delete: database.prepare('DELETE FROM pairs WHERE key = ?'),
      pairs: database.prepare('SELECT key, value FROM pairs WHERE key BETWEEN ? AND ?'),
      keys: database.prepare('SELECT key FROM pairs WHERE key BETWEEN ? AND ?'),
    };
  }

  override get(key: Key, options?: AbortOptions): Uint8Array {
    options?.signal?.throwIfAborted();
    const found = this.#statements.get.get(key.toString());
    if (found === undefined) throw new NotFoundError();
    return found['value'] as Uint8Array;
  }

  override has(key: Key, options?: AbortOptions): boolean {
    options?.signal?.throwIfAborted();
    return this.#statements.get.get(key.toString()) !== undefined;
  }

  override put(key: Key, value: Uint8Array, options?: AbortOptions): Key {
    options?.signal?.throwIfAborted();
    this.#write(() => this.#statements.put.run(key.toString(), value));
    return key;
  }

  override delete(key: Key, options?: AbortOptions): void {
    options?.signal?.throwIfAborted();
    this.#write(() => this.#statements.delete.run(key.toString()));
  }

  /** All that matches is read at once: what is written meanwhile does not move the place. */
  override *_all({ prefix }: Query): Generator<Pair> {
    for (const { key, value } of this.#statements.pairs.all(...rangeOf(prefix))) {
      yield { key: new Key(String(key), false), value: value as Uint8Array };
    }
  }

  override *_allKeys({ prefix }: KeyQuery): Generator<Key> {
    for (const { key } of this.#statements.keys.all(...rangeOf(prefix))) yield new Key(String(key), false);
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
  }

  #write(write: () => unknown): void {
    try {
      write();
      this.#failing = false;
    } catch (error) {
      const fields = { reason: rootReasonOf(error) };
      const message = 'what libp2p wants to remember cannot be written; it is forgotten at the next start';
      this.#log[this.#failing ? 'debug' : 'warn'](fields, message);
      this.#failing = true;
    }
  }
}

function rangeOf(prefix = ''): [string, string] {
  return [prefix, `${prefix}${LAST_CHARACTER}`];
}
