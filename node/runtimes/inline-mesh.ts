/** The mesh side on the loop of its caller: no port, no thread, and no restart, since a crash ends the process. */
import type { Mesh } from './mesh.ts';
import type { MeshLink } from './mesh-link.ts';

export function linkInline(mesh: Pick<Mesh, 'info' | 'call' | 'state' | 'drain' | 'meshRequest' | 'stop'>): MeshLink {
  return {
    info: mesh.info,
    restarts: 0,
    call: (tool, input, options) => mesh.call(tool, input, options),
    state: async () => mesh.state(),
    drain: (waitMs) => mesh.drain(waitMs),
    meshRequest: (request, input) => mesh.meshRequest(request, input),
    stop: () => mesh.stop(),
    failed: new Promise(() => {}),
  };
}
