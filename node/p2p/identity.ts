/** The key that makes a peer the same peer after a restart. */
import { chmod, link, mkdir, open, readFile, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys';
import type { PrivateKey } from '@libp2p/interface';
import { FlowmeshError } from '../../dag/errors.ts';
import type { Log } from '../../scheduler/ports.ts';
import { PRIVATE_FILE_MODE, PRIVATE_FOLDER_MODE } from '../private-file.ts';
import { rootReasonOf } from './errors.ts';

const KEY_FILE = 'identity.key';

export class IdentityUnreadableError extends FlowmeshError {
  constructor(file: string, cause: unknown) {
    super(
      'IDENTITY_UNREADABLE',
      `The identity key ${file} cannot be read or is damaged (${rootReasonOf(cause)}). Restore it from a backup, or move it away to start as a new peer.`,
      { cause, details: { file } },
    );
  }
}

/**
 * Reads the peer's private key from its data folder; makes folder and key (Ed25519, mode 0600) when there is none.
 *
 * @throws IdentityUnreadableError when a key is there but cannot be used: a new one would be another peer
 */
export async function loadIdentity(dataDir: string, log: Log): Promise<PrivateKey> {
  await mkdir(dataDir, { recursive: true, mode: PRIVATE_FOLDER_MODE });
  const file = path.join(dataDir, KEY_FILE);
  const key = (await read(file, log)) ?? (await create(file, log));
  return key;
}

async function read(file: string, log: Log): Promise<PrivateKey | undefined> {
  try {
    const key = privateKeyFromProtobuf(await readFile(file));
    const mode = (await stat(file)).mode & 0o777;
    if ((mode & 0o077) !== 0) {
      log.warn({ file, mode: mode.toString(8) }, 'others could read the identity key; its mode is now 0600');
      await chmod(file, PRIVATE_FILE_MODE);
    }
    return key;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new IdentityUnreadableError(file, error);
  }
}

async function create(file: string, log: Log): Promise<PrivateKey> {
  const key = await generateKeyPair('Ed25519');
  // Linked into place when it is complete: a crash leaves no half key, and of two starting processes one wins.
  const draft = `${file}.${process.pid}.${Date.now()}`;
  const handle = await open(draft, 'wx', PRIVATE_FILE_MODE);
  try {
    await handle.writeFile(privateKeyToProtobuf(key));
    await handle.sync();
    await link(draft, file);
    return key;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const theirs = await read(file, log);
    if (theirs === undefined) throw new IdentityUnreadableError(file, error);
    return theirs;
  } finally {
    await handle.close();
    await unlink(draft);
  }
}
