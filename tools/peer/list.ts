/** `peer_list`: the mesh as this peer sees it. */
import { z } from 'zod';
import type { PeerView } from '../../scheduler/api.ts';
import { defineMeshTool } from '../definition.ts';
import { capabilityFilterField, countOut, limitField, offsetField, pageOut, timeOut } from '../fields.ts';
import type { ConnectionInfo } from '../peers.ts';
import { metricsOf } from './figures.ts';
import { capabilitiesOf, offers, pathOut, viewsById } from './view.ts';

const LIMIT_DEFAULT = 100;
const STATUSES = ['connected', 'connecting', 'disconnected'] as const;

const itemOut = z.object({
  peer_id: z.string(),
  name: z.string().nullable(),
  status: z.enum(STATUSES),
  connected_since: timeOut,
  last_seen: timeOut,
  connection_quality: z.number().nullable().describe('0–1, from round trip, jitter and lost leases.'),
  latency_ms: z.number().nullable().describe('Measured round trip.'),
  bandwidth_mbps: z.number().nullable().describe('Megabits per second used, measured.'),
  capabilities: z.array(z.string()).nullable().describe('Actions and labels of its workers; null when not known.'),
  multiaddrs: z.array(z.string()),
  direction: z.enum(['inbound', 'outbound']).nullable(),
  ...pathOut,
  slots: countOut.nullable(),
  running_tasks: countOut.nullable(),
  queued_tasks: countOut.nullable(),
  version: z.string().nullable(),
});
type Item = z.infer<typeof itemOut>;

export const peerList = defineMeshTool({
  name: 'peer_list',
  title: 'List peers',
  description:
    'Lists the other peers that this one knows, with their connection, measured latency, and what their workers offer. Use it to see who is in the mesh and where work can run. It shows what is known now, without asking the network; peer_discover looks for more.',
  input: z.strictObject({
    status_filter: z.enum(STATUSES).optional().describe('Only those with this status.'),
    capability_filter: capabilityFilterField,
    sort_by: z
      .enum(['last_seen', 'latency', 'bandwidth', 'peer_id'])
      .default('last_seen')
      .describe('last_seen: latest first. latency: fastest first. bandwidth: most used first. Unknown figures last.'),
    limit: limitField(LIMIT_DEFAULT),
    offset: offsetField,
  }),
  output: z.object({ peers: z.array(itemOut), ...pageOut }).omit({ missing: true }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'peer:read',
  cli: {
    list: {
      field: 'peers',
      columns: [
        'peer_id',
        'name',
        'status',
        'path',
        'latency_ms',
        'connection_quality',
        'slots',
        'running_tasks',
        'capabilities',
      ],
    },
  },
  async handler({ status_filter, capability_filter, sort_by, limit, offset }, context) {
    const views = viewsById(context);
    const now = context.clock.wall();
    const matching = context.peers
      .list()
      .filter(({ peer_id, status }) => peer_id !== context.self && (status_filter ?? status) === status)
      .filter(({ peer_id }) => offers(views.get(peer_id), capability_filter))
      .map((connection) => itemOf(connection, views.get(connection.peer_id), now))
      .sort(ORDERS[sort_by]);
    const peers = matching.slice(offset, offset + limit);
    return {
      peers,
      total_count: matching.length,
      returned_count: peers.length,
      has_more: offset + peers.length < matching.length,
    };
  },
});

const byId = (a: Item, b: Item) => (a.peer_id < b.peer_id ? -1 : a.peer_id > b.peer_id ? 1 : 0);
/** Sorts by a figure, with nulls last in both directions. */
const byFigure = (figure: (item: Item) => number | null, descending: boolean) => (a: Item, b: Item) => {
  const [left, right] = [figure(a), figure(b)];
  if (left === null || right === null) return Number(left === null) - Number(right === null) || byId(a, b);
  return (descending ? right - left : left - right) || byId(a, b);
};

const ORDERS = {
  last_seen: byFigure(({ last_seen }) => (last_seen === null ? null : Date.parse(last_seen)), true),
  latency: byFigure(({ latency_ms }) => latency_ms, false),
  bandwidth: byFigure(({ bandwidth_mbps }) => bandwidth_mbps, true),
  peer_id: byId,
};

function itemOf(connection: ConnectionInfo, view: PeerView | undefined, nowMs: number): Item {
  const { latency_ms, connection_quality, bandwidth_mbps } = metricsOf(connection, view, nowMs);
  const state = view?.state ?? null;
  return {
    peer_id: connection.peer_id,
    name: connection.name ?? state?.name ?? null,
    status: connection.status,
    connected_since: connection.connected_since,
    last_seen: connection.last_seen,
    connection_quality,
    latency_ms,
    bandwidth_mbps,
    capabilities: capabilitiesOf(view),
    multiaddrs: connection.multiaddrs,
    direction: connection.direction,
    path: connection.path,
    path_reason: connection.path_reason,
    slots: state?.workers.reduce((sum, { slots }) => sum + slots, 0) ?? null,
    running_tasks: state?.running ?? null,
    queued_tasks: state?.queued ?? null,
    version: state?.version ?? null,
  };
}
