/**
 * The program as it is published (bundle.ts), made once for each state of the sources, when a test first asks for it:
 * a peer of it starts with half the processor time of one that runs the sources, and tests start hundreds of them.
 * What is about a checkout runs its own `bin/flowmesh.js`.
 */
import { createHash } from 'node:crypto';
import { existsSync, globSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
/** In node_modules, where a program is an installed one: it runs its build, and keeps what it compiled beside itself. */
const BUILDS = join(ROOT, 'node_modules/.cache/flowmesh-tests');
/** What comes with the bundle. */
const PACKED = ['bin', 'bootstrap.json', 'package.json'];
const SOURCES = ['{bin,dag,scheduler,tools,node}/**/*.{js,ts}', 'bundle.ts', 'bootstrap.json', 'package*.json'];
/** A build that was made so long ago is of sources that nobody tests now. */
const KEPT_MS = 24 * 60 * 60 * 1_000;

/** Of the published program; any Node can be given it. */
export const PROGRAM = join(await built(), 'bin/flowmesh.js');

/** The folder of the build of the sources as they are now. */
async function built(): Promise<string> {
  const hash = createHash('sha256');
  const files = globSync(SOURCES, { cwd: ROOT }).sort();
  for (const file of files) hash.update(`${file}\0`).update(await readFile(join(ROOT, file)));
  const folder = join(BUILDS, hash.digest('hex').slice(0, 16));
  if (!existsSync(folder)) await build(folder);
  return folder;
}

/** Another test process may make the same one: what is in place is whole, and the second one is thrown away. */
async function build(folder: string): Promise<void> {
  await mkdir(BUILDS, { recursive: true });
  await removeOld();
  const draft = await mkdtemp(`${folder}-`);
  const { bundle } = await import('../../bundle.ts');
  await bundle(join(draft, 'dist'));
  for (const file of PACKED) await cp(join(ROOT, file), join(draft, file), { recursive: true });
  // The cache of compiled sources goes there, and with it one day.
  await mkdir(join(draft, 'node_modules'));
  await rename(draft, folder).catch(() => rm(draft, { recursive: true }));
}

async function removeOld(): Promise<void> {
  for (const name of await readdir(BUILDS)) {
    // The draft of another test process may get its name just now.
    const mtimeMs = (await stat(join(BUILDS, name)).catch(() => null))?.mtimeMs;
    if (mtimeMs !== undefined && Date.now() - mtimeMs > KEPT_MS)
      await rm(join(BUILDS, name), { recursive: true, force: true });
  }
}
