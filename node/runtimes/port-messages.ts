/** What the serve loop and the mesh loop say to each other. */
import type { ErrorShape, JsonObject } from '../../dag/errors.ts';
import type { Caller } from '../../scheduler/caller.ts';
import type { LeaseToken } from '../../scheduler/messages.ts';
import type { WorkedOn } from '../../scheduler/ports.ts';
import type { Config } from '../config/settings.ts';
import type { KnownKey } from '../membership/api-key.ts';
import type { MeshRequest } from '../membership/requests.ts';
import type { MeshInfo, MeshState } from './mesh-link.ts';

/** `workerData` of the mesh thread. */
export interface MeshThreadData {
  config: Config;
}

/** `text` is its JSON where it is large: writing and reading that costs the loops less than a copy of the value. */
export type Carried<T> = { value: T } | { text: string };

export type ToMesh =
  | {
      kind: 'call';
      id: number;
      tool: string;
      input: Carried<unknown>;
      deadline_ms: number;
      checked: boolean;
      caller: Caller;
    }
  /** The caller of call `id` went away; the mesh answers it all the same, once. */
  | { kind: 'abort'; id: number; error: ErrorShape }
  | { kind: 'state'; id: number }
  /** Answered with an `output`: `Drained`. */
  | { kind: 'drain'; id: number; wait_ms: number }
  /** Answered with an `output`. */
  | { kind: 'mesh_request'; id: number; request: MeshRequest; input: unknown }
  | { kind: 'stop' };

export type FromMesh =
  | { kind: 'started'; info: MeshInfo }
  /** Could not start; the thread ends. */
  | { kind: 'start_failed'; error: ErrorShape }
  | { kind: 'output'; id: number; output: Carried<JsonObject> }
  | { kind: 'error'; id: number; error: ErrorShape }
  | { kind: 'state'; id: number; state: MeshState }
  | { kind: 'stopped'; error: ErrorShape | null }
  /** All keys of callers, whenever they change. */
  | { kind: 'keys'; keys: KnownKey[] }
  /** What the mesh loop works on (`LeaseWatch`). */
  | { kind: 'began'; leases: readonly WorkedOn[] }
  | { kind: 'ending'; leases: readonly WorkedOn[] }
  | { kind: 'over'; leases: readonly LeaseToken[] };
