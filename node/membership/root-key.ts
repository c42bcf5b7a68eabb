/**
 * The key of the mesh's root: `root.key` in the founder's data folder, or where people moved it. Who has it can do
 * everything to the mesh; daily life goes on without it.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PRIVATE_FILE_MODE } from '../private-file.ts';
import { MembershipError } from './errors.ts';
import { newSigningKey, type SigningKey, signingKey } from './keys.ts';

const FILE = 'root.key';
const SEED_BYTES = 32;

export function rootKeyFile(dataDir: string): string {
  return join(dataDir, FILE);
}

/** Null when there is none. @throws MembershipError NEEDS_ROOT for a file that holds none */
export function readRootKey(file: string): SigningKey | null {
  if (!existsSync(file)) return null;
  const seed = Buffer.from(readFileSync(file, 'utf8').trim(), 'base64url');
  if (seed.byteLength === SEED_BYTES) return signingKey(seed);
  throw new MembershipError(
    'NEEDS_ROOT',
    `${file} does not hold the key of a root. Give the one that "mesh init" made.`,
  );
}

/** Makes a root, and keeps its key in this file before it is used. One that is there is kept beside it. */
export function makeRootKey(file: string): SigningKey {
  const key = newSigningKey();
  const draft = `${file}.new`;
  writeFileSync(draft, `${Buffer.from(key.seed).toString('base64url')}\n`, { mode: PRIVATE_FILE_MODE, flush: true });
  if (existsSync(file)) renameSync(file, `${file}.${new Date().toISOString().replaceAll(':', '-')}.old`);
  renameSync(draft, file);
  return key;
}
