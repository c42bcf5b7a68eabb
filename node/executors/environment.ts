/** The environment of the processes that run a user's work. */

/**
 * This peer's environment without its own settings (`FLOWMESH_…`), which may hold secrets of the mesh.
 */
export function inheritedEnvironment(): Record<string, string> {
  const inherited: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && !name.startsWith('FLOWMESH_')) inherited[name] = value;
  }
  return inherited;
}
