/** The file that says which mesh to join: `bootstrap.json`, with any other setting beside the addresses. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { packageFile } from '../package-file.ts';
import { readDocument } from './document.ts';
import { UsageError } from './exit.ts';

const MESH_FILE = 'bootstrap.json';

/**
 * @param given what `--bootstrap` said: a path, `true` for the one of the working folder (else the package's own),
 *   or undefined for no file
 * @throws UsageError when it cannot be read or is no object
 */
export async function readMeshFile(
  given: string | boolean | undefined,
  cwd: string,
): Promise<{ path: string; value: unknown } | undefined> {
  if (given === undefined || given === false) return undefined;
  const path = typeof given === 'string' ? resolve(cwd, given) : (localMeshFile(cwd) ?? packageFile(MESH_FILE));
  const { value } = await readDocument(path);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UsageError(
      `${path}: must be an object such as { "mesh": "default", "bootstrap": ["/ip4/127.0.0.1/tcp/7600"] }`,
    );
  }
  return { path, value };
}

/** The mesh file of a working folder, if there is one. */
export function localMeshFile(cwd: string): string | undefined {
  const path = join(cwd, MESH_FILE);
  return existsSync(path) ? path : undefined;
}
