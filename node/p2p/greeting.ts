/**
 * The first words on a peer stream. The peer that opened it asks `hello` with who it is; the other one answers with
 * the same about itself, or with WRONG_MESH, VERSION_MISMATCH or another reason why not; the opener then says
 * `ready`, and only then is the stream used. The third step lets an opener drop a stream that has become
 * superfluous while the answer was on its way, without the other side having taken it for the one in use.
 */
import { z } from 'zod';
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { type PeerState, peerStateSchema } from '../../scheduler/messages.ts';
import { VersionMismatchError, WrongMeshError } from './errors.ts';

/** Of the peer protocol. Peers of another major version are refused. */
export const PROTOCOL_VERSION = '1.0.0';
/** What the names of all versions begin with. */
export const PEER_PROTOCOL_FAMILY = '/flowmesh/peer/';
export const PEER_PROTOCOL = `${PEER_PROTOCOL_FAMILY}${PROTOCOL_VERSION}`;
export const HELLO = 'hello';
export const READY = 'ready';
/** From an opened stream to its `ready`. */
export const GREETING_TIMEOUT_MS = 5_000;

export interface Hello {
  protocol: string;
  mesh: string;
  state: PeerState;
  addresses: string[];
}

const introSchema = z.object({ protocol: z.string().max(64), mesh: z.string().max(256) });
const helloSchema = introSchema.extend({
  state: peerStateSchema,
  addresses: z.array(z.string().max(512)).max(32),
});

/** This peer's own hello. */
export function helloOf(mesh: string, state: PeerState, addresses: string[]): JsonObject {
  return { protocol: PROTOCOL_VERSION, mesh, state: state as unknown as JsonObject, addresses };
}

/**
 * Reads what a peer says about itself. `refusedBy` and `mesh` are this peer's own.
 *
 * @throws VersionMismatchError, WrongMeshError, or FlowmeshError INVALID_HELLO
 */
export function readHello(value: unknown, refusedBy: string, mesh: string): Hello {
  // Version and mesh come first: the rest of another major version's hello may look different.
  const intro = introSchema.safeParse(value);
  if (!intro.success) throw invalid(intro.error);
  if (majorOf(intro.data.protocol) !== majorOf(PROTOCOL_VERSION)) {
    throw new VersionMismatchError(refusedBy, intro.data.protocol, PROTOCOL_VERSION);
  }
  if (intro.data.mesh !== mesh) throw new WrongMeshError(refusedBy, intro.data.mesh, mesh);
  const hello = helloSchema.safeParse(value);
  if (!hello.success) throw invalid(hello.error);
  return hello.data;
}

function majorOf(version: string): string {
  return version.split('.')[0]!;
}

function invalid(error: z.ZodError): FlowmeshError {
  return new FlowmeshError('INVALID_HELLO', `The hello of the peer is not valid: ${z.prettifyError(error)}`, {
    cause: error,
  });
}
