/** The environment of this machine without what would set up a peer. */
import { COMMON_VARIABLES } from '../../node/config/common-variables.ts';

export function environmentWithoutSettings(): NodeJS.ProcessEnv {
  const common = new Set(COMMON_VARIABLES.map(({ env }) => env));
  const isSetting = (name: string) => name.startsWith('FLOWMESH_') || common.has(name);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !isSetting(name)));
}
