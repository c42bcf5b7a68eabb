/**
 * The mesh loop's end of the port. Every call gets exactly one answer, also when it was given up: that is how the
 * other side knows that it is done. Calls that were given up see an aborted signal.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { MessagePort } from 'node:worker_threads';
import { errorShape, type JsonObject, RemoteError } from '../../dag/errors.ts';
import { isLarge } from '../../dag/json.ts';
import type { LeaseWatch } from '../../scheduler/ports.ts';
import type { KnownKey } from '../membership/api-key.ts';
import type { MeshRequest } from '../membership/requests.ts';
import { BatchPort } from './batch-port.ts';
import { UnclonableError } from './errors.ts';
import type { CallOptions, Drained, MeshInfo, MeshState } from './mesh-link.ts';
import type { FromMesh, ToMesh } from './port-messages.ts';

/** What of the mesh side is served; `startMesh` makes one. */
export interface ServedMesh {
  readonly info: MeshInfo;
  call(tool: string, input: unknown, options: CallOptions): Promise<JsonObject>;
  state(): MeshState;
  drain(waitMs: number): Promise<Drained>;
  meshRequest(request: MeshRequest, input: unknown): Promise<JsonObject>;
  stop(): Promise<void>;
}

/** Whom the mesh side tells what the other end is to know without asking. */
export interface Told {
  /** Which leases it works on. */
  watch: LeaseWatch;
  onKeys: (keys: KnownKey[]) => void;
}

/** Starts the mesh side, says so, and serves it until it is told to stop. Then the port is closed. */
export async function serveMeshPort(port: MessagePort, start: (told: Told) => Promise<ServedMesh>): Promise<void> {
  const aborts = new Map<number, AbortController>();
  let mesh: ServedMesh | undefined;

  const batches = new BatchPort<FromMesh, ToMesh>(port, {
    onMessage(message) {
      if (message.kind === 'abort') aborts.get(message.id)?.abort(new RemoteError(message.error));
      else if (message.kind === 'stop') void stop();
      else if (message.kind === 'call') void call(message);
      else if (message.kind === 'drain') void drain(message);
      else if (message.kind === 'mesh_request') void meshRequest(message);
      else batches.post({ kind: 'state', id: message.id, state: mesh!.state() });
    },
    onUnclonable(message, error) {
      if (!('id' in message)) throw error;
      batches.post({ kind: 'error', id: message.id, error: errorShape(new UnclonableError(error)) });
    },
  });

  const call = async ({ id, tool, input, deadline_ms, checked, caller }: ToMesh & { kind: 'call' }) => {
    const abort = new AbortController();
    aborts.set(id, abort);
    try {
      const output = await mesh!.call(tool, await read(input), {
        signal: abort.signal,
        deadlineMs: deadline_ms,
        checked,
        caller,
      });
      const large = isLarge(output);
      // It was decoded or read in this turn.
      if (large) await turn();
      batches.post({ kind: 'output', id, output: large ? { text: JSON.stringify(output) } : { value: output } });
    } catch (error) {
      batches.post({ kind: 'error', id, error: errorShape(error) });
    } finally {
      aborts.delete(id);
    }
  };

  // One after the other, each in a turn of its own, and its work in the next: what comes together does not add up.
  let turns: Promise<unknown> = Promise.resolve();
  const read = async (input: (ToMesh & { kind: 'call' })['input']): Promise<unknown> => {
    if ('value' in input) return input.value;
    const value = turns.then(() => turn()).then(() => JSON.parse(input.text) as unknown);
    turns = value.then(() => turn());
    return await turns.then(() => value);
  };

  const drain = async ({ id, wait_ms }: ToMesh & { kind: 'drain' }) => {
    try {
      batches.post({ kind: 'output', id, output: { value: { ...(await mesh!.drain(wait_ms)) } } });
    } catch (error) {
      batches.post({ kind: 'error', id, error: errorShape(error) });
    }
  };

  const meshRequest = async ({ id, request, input }: ToMesh & { kind: 'mesh_request' }) => {
    try {
      batches.post({ kind: 'output', id, output: { value: await mesh!.meshRequest(request, input) } });
    } catch (error) {
      batches.post({ kind: 'error', id, error: errorShape(error) });
    }
  };

  const stop = async () => {
    let failure: FromMesh & { kind: 'stopped' } = { kind: 'stopped', error: null };
    try {
      await mesh!.stop();
    } catch (error) {
      failure = { kind: 'stopped', error: errorShape(error) };
    }
    last(failure);
  };

  const last = (message: FromMesh) => {
    batches.post(message);
    batches.flush();
    port.close();
  };

  // What a lease does next may be a crash: it has to be on the other side before.
  const atOnce = (message: FromMesh) => {
    batches.post(message);
    batches.flush();
  };
  const watch: LeaseWatch = {
    began: (leases) => atOnce({ kind: 'began', leases }),
    ending: (leases) => atOnce({ kind: 'ending', leases }),
    over: (leases) => batches.post({ kind: 'over', leases }),
  };

  try {
    mesh = await start({ watch, onKeys: (keys) => batches.post({ kind: 'keys', keys }) });
    batches.post({ kind: 'started', info: mesh.info });
  } catch (error) {
    last({ kind: 'start_failed', error: errorShape(error) });
  }
}
