/** What can go wrong between a peer and its data file, told so that a person knows which file and what to do. */
import { FlowmeshError } from '../../dag/errors.ts';

/** There is no room for the rows. Nothing of the commit is kept; it can be repeated when there is room again. */
export class DiskFullError extends FlowmeshError {
  constructor(path: string, cause?: unknown) {
    super(
      'DISK_FULL',
      `No room left for ${path}. Nothing of this commit was kept and everything before it is safe; free some space on that disk, work goes on by itself.`,
      { retryable: true, details: { path }, cause },
    );
  }
}

/** The file could not be written or read for another reason than its content or a full disk. */
export class StoreFailedError extends FlowmeshError {
  constructor(path: string, problem: string, options: { retryable?: boolean; cause?: unknown } = {}) {
    super('STORE_FAILED', `The data file ${path} cannot be used now: ${problem}`, {
      retryable: options.retryable ?? true,
      details: { path },
      cause: options.cause,
    });
  }
}

/** The file is not what a peer wrote. Starting on it would lose or invent records, so nothing is done with it. */
export class DataFolderCorruptError extends FlowmeshError {
  constructor(path: string, problem: string, options: { uid?: string; cause?: unknown } = {}) {
    super(
      'DATA_FOLDER_CORRUPT',
      `The data file ${path} is damaged: ${problem}. Stop the peer and restore the file from a backup, or move it away together with its -wal and -shm files: the next start makes an empty one.`,
      { details: { path, ...(options.uid !== undefined && { uid: options.uid }) }, cause: options.cause },
    );
  }
}

/** The file was written by a later version, whose records this one could misread. */
export class DataFolderNewerError extends FlowmeshError {
  constructor(path: string, found: number, known: number) {
    super(
      'DATA_FOLDER_NEWER',
      `The data file ${path} has format ${found}, this flowmesh knows formats up to ${known}. Start the newer flowmesh that wrote it, or use another data folder.`,
      { details: { path, found, known } },
    );
  }
}

/** The file was written by a version before the first release, whose records this one cannot take over. */
export class DataFolderOlderError extends FlowmeshError {
  constructor(path: string, found: number, known: number) {
    super(
      'DATA_FOLDER_OLDER',
      `The data file ${path} has format ${found}, which was never released; this flowmesh needs format ${known}. Move it away together with its -wal and -shm files: the next start makes an empty one.`,
      { details: { path, found, known } },
    );
  }
}

/** The folder or file cannot be opened at all. */
export class DataFolderUnreadableError extends FlowmeshError {
  constructor(path: string, problem: string, cause?: unknown) {
    super(
      'DATA_FOLDER_UNREADABLE',
      `The data file ${path} cannot be opened: ${problem}. Give this user the right to read and write the file and its folder, or use another data folder.`,
      { details: { path }, cause },
    );
  }
}

// Primary result codes of SQLite (https://www.sqlite.org/rescode.html); the extended ones keep them in the low byte.
const SQLITE_PERM = 3;
const SQLITE_READONLY = 8;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_CANTOPEN = 14;
const SQLITE_NOTADB = 26;
/** The shared-memory file beside the data file could not grow: in practice a full disk. */
const SQLITE_IOERR_SHMSIZE = 4874;

/**
 * Any error of SQLite or the file system as one of the errors above.
 *
 * @param doing what was being done, as it completes "… failed", e.g. `writing`
 */
export function storeError(error: unknown, path: string, doing: string): FlowmeshError {
  if (error instanceof FlowmeshError) return error;
  const { errcode, errstr, code, message } = error as Partial<
    Record<'errcode' | 'errstr' | 'code' | 'message', unknown>
  >;
  if (code === 'ENOSPC' || code === 'EDQUOT') return new DiskFullError(path, error);
  if (typeof errcode !== 'number') return new StoreFailedError(path, `${doing} failed: ${message}`, { cause: error });
  const primary = errcode & 0xff;
  if (primary === SQLITE_FULL || errcode === SQLITE_IOERR_SHMSIZE) return new DiskFullError(path, error);
  if (primary === SQLITE_CORRUPT || primary === SQLITE_NOTADB) {
    return new DataFolderCorruptError(path, `${doing} failed, ${message}`, { cause: error });
  }
  if (primary === SQLITE_CANTOPEN || primary === SQLITE_PERM || primary === SQLITE_READONLY) {
    return new DataFolderUnreadableError(path, `${doing} failed, ${message}`, error);
  }
  return new StoreFailedError(path, `${doing} failed: ${message} (${errstr}, SQLite code ${errcode}).`, {
    cause: error,
  });
}
