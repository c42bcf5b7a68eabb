/** `peer_metrics`: the figures of one connection. */
import { z } from 'zod';
import { defineMeshTool } from '../definition.ts';
import { PeerNotFoundError } from '../errors.ts';
import { countOut, peerIdField, timeOut } from '../fields.ts';
import { metricsOf, metricsOut, ownMetrics } from './figures.ts';
import { peerIdOf } from './reference.ts';
import { pathOut, sourceOut, viewsById } from './view.ts';

const HISTORY_HOURS_MAX = 24;

export const peerMetrics = defineMeshTool({
  name: 'peer_metrics',
  title: 'Figures of a peer',
  description:
    'Gives the measured figures of the connection between the asked peer and another one: latency, jitter, bytes, how many of its leases were kept, and one quality figure from 0 to 1. Use it to see why work is slow or lost between two peers. With its own id a peer gives its totals. What was not measured is null.',
  input: z.strictObject({
    peer_id: peerIdField,
    include_history: z.boolean().default(false).describe('One sample a minute.'),
    history_hours: z
      .number()
      .positive()
      .max(HISTORY_HOURS_MAX)
      .default(HISTORY_HOURS_MAX)
      .describe('How far back the samples go, at most 24.'),
  }),
  output: z.object({
    peer_id: z.string(),
    name: z.string().nullable(),
    current_metrics: metricsOut,
    connection_info: z
      .object({
        status: z.enum(['connected', 'connecting', 'disconnected']),
        connection_id: z.string().nullable(),
        direction: z.enum(['inbound', 'outbound']).nullable(),
        ...pathOut,
        source: sourceOut,
        connected_since: timeOut,
        last_seen: timeOut,
        protocol_version: z.string().nullable(),
        multiaddrs: z.array(z.string()),
      })
      .nullable()
      .describe('Null for the asked peer itself.'),
    leases: z.object({ kept: countOut, lost: countOut }).nullable().describe('Leases given to it that ended.'),
    history: z
      .array(
        z.object({
          at: z.string(),
          latency_ms: z.number().nullable(),
          bytes_sent: countOut,
          bytes_received: countOut,
        }),
      )
      .optional()
      .describe('Oldest first, with include_history.'),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'peer:read',
  cli: {
    positional: ['peer_id'],
    list: { field: 'history', columns: ['at', 'latency_ms', 'bytes_sent', 'bytes_received'] },
  },
  async handler({ peer_id: meant, include_history, history_hours }, context) {
    const peer_id = peerIdOf(meant, context);
    const history = include_history ? { history: context.peers.history(peer_id, history_hours) } : {};
    if (peer_id === context.self) {
      const current_metrics = ownMetrics(context);
      return {
        peer_id,
        name: context.scheduler.name,
        current_metrics,
        connection_info: null,
        leases: null,
        ...history,
      };
    }
    const connection = context.peers.list().find((each) => each.peer_id === peer_id);
    if (connection === undefined) throw new PeerNotFoundError(peer_id);
    const view = viewsById(context).get(peer_id);
    const { status, connection_id, direction, path, path_reason, source } = connection;
    const { connected_since, last_seen, protocol_version, multiaddrs } = connection;
    return {
      peer_id,
      name: connection.name ?? view?.state?.name ?? null,
      current_metrics: metricsOf(connection, view, context.clock.wall()),
      connection_info: {
        status,
        connection_id,
        direction,
        path,
        path_reason,
        source,
        connected_since,
        last_seen,
        protocol_version,
        multiaddrs,
      },
      leases: view === undefined ? null : { kept: view.leases_kept, lost: view.leases_lost },
      ...history,
    };
  },
});
