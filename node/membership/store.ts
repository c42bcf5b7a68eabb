/**
 * What a peer keeps of its mesh: `membership.db` in its data folder. A peer without this file is in an open mesh. Every
 * write is on the disk when it returns; there are few of them.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { makePrivateDatabase } from '../private-file.ts';
import { readStatement, type Statement } from './statement.ts';

const FILE = 'membership.db';

/** What is set once, or seldom. */
export interface OwnFacts {
  mesh: string;
  mesh_name: string;
  /** Where members were to be found when this peer joined. */
  sponsors: string[];
}

/** Whether the peer of a data folder is a member of a secured mesh. */
export function isSecured(dataDir: string): boolean {
  return existsSync(join(dataDir, FILE));
}

export class MembershipStore {
  readonly #database: DatabaseSync;

  /** Opens the file of a data folder, or makes it. @throws what the system or SQLite says */
  constructor(dataDir: string) {
    const file = join(dataDir, FILE);
    makePrivateDatabase(file);
    this.#database = new DatabaseSync(file);
    this.#database.exec(
      'PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS statements (id TEXT PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID; CREATE TABLE IF NOT EXISTS own (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID',
    );
  }

  /** Null when the file was made and nothing is in it: joining did not come to its end. */
  facts(): OwnFacts | null {
    const found = this.#database.prepare("SELECT value FROM own WHERE name = 'facts'").get();
    return found === undefined ? null : (JSON.parse(String(found['value'])) as OwnFacts);
  }

  statements(): Statement[] {
    const rows = this.#database.prepare('SELECT bytes FROM statements').all();
    return rows.map(({ bytes }) => readStatement(bytes as Uint8Array));
  }

  /** All or nothing. */
  write(change: { facts?: OwnFacts; added?: readonly Statement[]; dropped?: readonly string[] }): void {
    const database = this.#database;
    database.exec('BEGIN IMMEDIATE');
    try {
      const put = database.prepare('INSERT OR REPLACE INTO statements VALUES (?, ?)');
      for (const { id, bytes } of change.added ?? []) put.run(id, bytes);
      const remove = database.prepare('DELETE FROM statements WHERE id = ?');
      for (const id of change.dropped ?? []) remove.run(id);
      if (change.facts !== undefined) {
        database.prepare("INSERT OR REPLACE INTO own VALUES ('facts', ?)").run(JSON.stringify(change.facts));
      }
      database.exec('COMMIT');
    } catch (error) {
      if (database.isTransaction) database.exec('ROLLBACK');
      throw error;
    }
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
  }
}
