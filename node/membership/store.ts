/**
 * What a peer keeps of its mesh: `membership.db` in its data folder. A peer without this file is in an open mesh. Every
 * write is on the disk when it returns; there are few of them.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { makePrivateDatabase } from '../private-file.ts';
import { MembershipError } from './errors.ts';
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

const SCHEMA =
  'PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS statements (id TEXT PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID; CREATE TABLE IF NOT EXISTS own (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID';

export class MembershipStore {
  readonly #database: DatabaseSync;

  /** Opens the file of a data folder, or makes it. @throws MembershipError MEMBERSHIP_UNREADABLE, what the system says */
  constructor(dataDir: string) {
    const file = join(dataDir, FILE);
    makePrivateDatabase(file);
    this.#database = new DatabaseSync(file);
    try {
      this.#database.exec(SCHEMA);
    } catch (cause) {
      this.#database.close();
      throw unreadable(file, cause);
    }
  }

  /** Null when the file was made and nothing is in it: joining did not come to its end. */
  facts(): OwnFacts | null {
    const found = this.#database.prepare("SELECT value FROM own WHERE name = 'facts'").get();
    return found === undefined ? null : (JSON.parse(String(found['value'])) as OwnFacts);
  }

  /** What is damaged is left out: others have it too. */
  statements(): { statements: Statement[]; damaged: number } {
    const rows = this.#database.prepare('SELECT bytes FROM statements').all();
    const statements = rows.flatMap(({ bytes }) => readable(bytes as Uint8Array));
    return { statements, damaged: rows.length - statements.length };
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

function readable(bytes: Uint8Array): Statement[] {
  try {
    return [readStatement(bytes)];
  } catch {
    return []; // Counted by the caller.
  }
}

function unreadable(file: string, cause: unknown): MembershipError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MembershipError(
    'MEMBERSHIP_UNREADABLE',
    `${file} cannot be read or written (${why}). Restore it from a backup, or move it away and join again: flowmesh join fmj1_…`,
    { cause },
  );
}
