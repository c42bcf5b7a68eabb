/**
 * What libp2p keeps on disk: the peers it met and the records of the DHT. All of it is found again on the way, so a
 * write that fails (a full disk) is forgotten and never costs this peer its connections.
 */
import path from 'node:path';
import { LevelDatastore } from 'datastore-level';
import type { Log } from '../../scheduler/ports.ts';
import { DataFolderInUseError, DataFolderUnusableError } from '../data-folder.ts';
import { rootReasonOf } from './errors.ts';

/** @throws DataFolderInUseError, DataFolderUnusableError */
export async function openPeerMemory(dataDir: string, log: Log): Promise<LevelDatastore> {
  const folder = path.join(dataDir, 'libp2p');
  const memory = new PeerMemory(folder, log);
  try {
    // The datastore's own `open` would hide why it failed.
    await memory.db.open();
    return memory;
  } catch (error) {
    if (isLocked(error)) throw new DataFolderInUseError(dataDir, undefined);
    const why = `what libp2p remembers in ${folder} cannot be read (${rootReasonOf(error)})`;
    const remedy = 'move that folder away, peers are found again';
    throw new DataFolderUnusableError(dataDir, why, { remedy, cause: error });
  }
}

class PeerMemory extends LevelDatastore {
  readonly #log: Log;
  #failing = false;

  constructor(folder: string, log: Log) {
    super(folder);
    this.#log = log;
  }

  override async put(...args: Parameters<LevelDatastore['put']>): ReturnType<LevelDatastore['put']> {
    await this.#written(super.put(...args), args[2]?.signal);
    return args[0];
  }

  override async delete(...args: Parameters<LevelDatastore['delete']>): Promise<void> {
    await this.#written(super.delete(...args), args[1]?.signal);
  }

  override batch(): ReturnType<LevelDatastore['batch']> {
    const batch = super.batch();
    return { ...batch, commit: async (options) => this.#written(batch.commit(options), options?.signal) };
  }

  async #written(write: unknown, signal: AbortSignal | undefined): Promise<void> {
    try {
      await write;
      this.#failing = false;
    } catch (error) {
      signal?.throwIfAborted();
      const fields = { reason: rootReasonOf(error) };
      const message = 'what libp2p wants to remember cannot be written; it is forgotten at the next start';
      this.#log[this.#failing ? 'debug' : 'warn'](fields, message);
      this.#failing = true;
    }
  }
}

function isLocked(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ((cause as NodeJS.ErrnoException).code === 'LEVEL_LOCKED') return true;
  }
  return false;
}
