/** Files that only the user of this peer may read, whatever the rights of their folder and the umask are. */
import { chmodSync, closeSync, openSync, statSync } from 'node:fs';

export const PRIVATE_FILE_MODE = 0o600;
export const PRIVATE_FOLDER_MODE = 0o700;
const OTHERS = 0o077;

/**
 * Makes an empty file for a database when there is none, and takes the rights of others away from one that is there,
 * and from the files that SQLite keeps beside it: new ones of these get the rights of the database.
 *
 * What is there is not opened: closing it would end the locks that this process has on it (POSIX).
 *
 * @throws what the system says
 */
export function makePrivateDatabase(file: string): void {
  try {
    closeSync(openSync(file, 'ax', PRIVATE_FILE_MODE));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    for (const each of ['', '-wal', '-shm', '-journal']) takeRightsOfOthers(file + each);
  }
}

function takeRightsOfOthers(file: string): void {
  const found = statSync(file, { throwIfNoEntry: false });
  if (found !== undefined && (found.mode & OTHERS) !== 0) chmodSync(file, PRIVATE_FILE_MODE);
}

/** Whether others than its user can look into a folder. */
export function isOpenToOthers(folder: string): boolean {
  return process.platform !== 'win32' && (statSync(folder).mode & OTHERS) !== 0;
}
