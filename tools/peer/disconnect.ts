/** `peer_disconnect`: closes a connection. */
import { z } from 'zod';
import { defineMeshTool } from '../definition.ts';
import { PeerNotFoundError } from '../errors.ts';
import { countOut, peerIdField, reasonField } from '../fields.ts';
import { peerIdOf } from './reference.ts';

export const peerDisconnect = defineMeshTool({
  name: 'peer_disconnect',
  title: 'Disconnect a peer',
  description:
    'Closes the connection between the asked peer and another one; it is not redialled until peer_connect or the other side asks. Gracefully, work that the two do for each other is finished or handed back first; otherwise it is run again elsewhere as for a lost peer. Use it before a peer is taken away, or to cut off one that misbehaves.',
  input: z.strictObject({
    peer_id: peerIdField,
    reason: reasonField,
    graceful: z.boolean().default(true).describe('Finish or hand back what the two run for each other first.'),
  }),
  output: z.object({
    peer_id: z.string(),
    was_connected: z.boolean(),
    graceful: z.boolean(),
    reason: z.string().nullable(),
    cleanup_performed: z.boolean().describe('True when work was finished or handed back before.'),
    handed_back: countOut.describe('Tasks that were handed back.'),
  }),
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  permission: 'peer:admin',
  cli: { positional: ['peer_id'] },
  async handler({ peer_id: meant, reason, graceful }, context) {
    const { peers, scheduler } = context;
    const peer_id = peerIdOf(meant, context);
    const known = peers.list().find((connection) => connection.peer_id === peer_id);
    if (known === undefined) throw new PeerNotFoundError(peer_id);
    const releases = graceful && known.status === 'connected';
    const { handed_back } = releases ? await scheduler.releasePeer(peer_id) : { handed_back: 0 };
    const { was_connected } = await peers.disconnect(peer_id, reason);
    return { peer_id, was_connected, graceful, reason: reason ?? null, cleanup_performed: releases, handed_back };
  },
});
