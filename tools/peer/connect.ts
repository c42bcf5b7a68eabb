/** `peer_connect`: opens a connection. */
import { z } from 'zod';
import { defineMeshTool } from '../definition.ts';
import { countOut, multiaddrField, peerIdField, rounded, waitField } from '../fields.ts';
import { peerIdOf } from './reference.ts';
import { capabilitiesOf, viewsById } from './view.ts';

const WAIT_DEFAULT_MS = 30_000;
const RETRIES_DEFAULT = 3;
const RETRIES_MAX = 20;

export const peerConnect = defineMeshTool({
  name: 'peer_connect',
  title: 'Connect to a peer',
  description:
    'Opens a connection from the asked peer to another one and greets it, by its PeerId, its multiaddr, or both. Use it to join two parts of a mesh, or to reach a peer that peer_discover found. It answers when the greeting is done; a peer that cannot be reached is PEER_UNREACHABLE, one of another mesh WRONG_MESH.',
  input: z
    .strictObject({
      peer_id: peerIdField
        .optional()
        .describe(
          'The peer: its id, or the name of one that is known; alone it is enough when the mesh knows its addresses.',
        ),
      multiaddr: multiaddrField.optional().describe('Where to dial it, e.g. /ip4/127.0.0.1/tcp/7600.'),
      timeout_ms: waitField(WAIT_DEFAULT_MS),
      retry_count: z
        .number()
        .int()
        .min(0)
        .max(RETRIES_MAX)
        .default(RETRIES_DEFAULT)
        .describe('How often to try again, within timeout_ms.'),
      persist: z.boolean().default(true).describe('Keep its address and redial it when the connection is lost.'),
    })
    .refine(({ peer_id, multiaddr }) => peer_id !== undefined || multiaddr !== undefined, {
      error: 'give peer_id, multiaddr, or both',
    }),
  output: z.object({
    peer_id: z.string(),
    connection_id: z.string(),
    connection_time_ms: z.number().describe('From the first dial to the end of the greeting.'),
    protocol_version: z.string(),
    peer_capabilities: z.array(z.string()).describe('Actions and labels of its workers.'),
    attempts: countOut,
  }),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: true },
  permission: 'peer:write',
  waitMs: ({ timeout_ms }) => timeout_ms,
  cli: { positional: ['multiaddr'] },
  async handler(target, context) {
    const { multiaddr, timeout_ms, retry_count, persist } = target;
    const peer_id = target.peer_id === undefined ? undefined : peerIdOf(target.peer_id, context);
    const { signal } = context;
    const result = await context.peers.connect({ peer_id, multiaddr, timeout_ms, retry_count, persist, signal });
    return {
      peer_id: result.peer_id,
      connection_id: result.connection_id,
      connection_time_ms: rounded(result.connection_time_ms),
      protocol_version: result.protocol_version,
      peer_capabilities: capabilitiesOf(viewsById(context).get(result.peer_id)) ?? [],
      attempts: result.attempts,
    };
  },
});
