/** The environment of the processes that run a user's work. */

import { join } from 'node:path';

/** Where `bin/flowmesh.js` keeps compiled sources. */
const OWN_COMPILE_CACHE = join('.cache', 'flowmesh');

/**
 * This peer's environment without its own settings (`FLOWMESH_…`), which may hold secrets of the mesh, and without
 * the folder that its threads keep their compiled sources in.
 */
export function inheritedEnvironment(): Record<string, string> {
  const inherited: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (value === undefined || name.startsWith('FLOWMESH_')) continue;
    if (name === 'NODE_COMPILE_CACHE' && value.endsWith(OWN_COMPILE_CACHE)) continue;
    inherited[name] = value;
  }
  return inherited;
}
