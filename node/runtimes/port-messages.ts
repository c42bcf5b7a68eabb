/** What the serve loop and the mesh loop say to each other. */
import type { ErrorShape, JsonObject } from '../../dag/errors.ts';
import type { LeaseToken } from '../../scheduler/messages.ts';
import type { WorkedOn } from '../../scheduler/ports.ts';
import type { Config } from '../config.ts';
import type { MeshInfo, MeshState } from './mesh-link.ts';

/** `workerData` of the mesh thread. */
export interface MeshThreadData {
  config: Config;
}

export type ToMesh =
  /** `text` is the input's JSON where it is large: reading that costs the other loop less than a copy of the value. */
  | {
      kind: 'call';
      id: number;
      tool: string;
      input: { value: unknown } | { text: string };
      deadline_ms: number;
      checked: boolean;
    }
  /** The caller of call `id` went away; the mesh answers it all the same, once. */
  | { kind: 'abort'; id: number; error: ErrorShape }
  | { kind: 'state'; id: number }
  /** Answered with an `output`: `Drained`. */
  | { kind: 'drain'; id: number; wait_ms: number }
  | { kind: 'stop' };

export type FromMesh =
  | { kind: 'started'; info: MeshInfo }
  /** Could not start; the thread ends. */
  | { kind: 'start_failed'; error: ErrorShape }
  | { kind: 'output'; id: number; output: JsonObject }
  | { kind: 'error'; id: number; error: ErrorShape }
  | { kind: 'state'; id: number; state: MeshState }
  | { kind: 'stopped'; error: ErrorShape | null }
  /** What the mesh loop works on (`LeaseWatch`). */
  | { kind: 'began'; leases: readonly WorkedOn[] }
  | { kind: 'ending'; leases: readonly WorkedOn[] }
  | { kind: 'over'; leases: readonly LeaseToken[] };
