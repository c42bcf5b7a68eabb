/** `peer_discover`: asks the network for peers. */
import { z } from 'zod';
import { announcedAs } from '../../scheduler/capabilities.ts';
import { defineMeshTool, type MeshContext } from '../definition.ts';
import { capabilityFilterField, countOut, msOut, rounded, timeOut, waitField } from '../fields.ts';
import type { ConnectionInfo } from '../peers.ts';
import { metricsOf, metricsOut } from './figures.ts';
import { capabilitiesOf, offers, sourceOut, viewsById } from './view.ts';

const WAIT_DEFAULT_MS = 30_000;
const PEERS_DEFAULT = 10;
const PEERS_MAX = 100;

export const peerDiscover = defineMeshTool({
  name: 'peer_discover',
  title: 'Discover peers',
  description:
    'Looks for peers in the DHT and among the connected ones: for all, or with capability_filter for those that offer some actions or labels. Use it to find out whether the mesh has, say, a GPU anywhere; it only looks, peer_connect makes a connection. A peer that is not `connected` may be gone: what the DHT says, and what was seen earlier, can be out of date.',
  input: z.strictObject({
    capability_filter: capabilityFilterField,
    max_peers: z.number().int().min(1).max(PEERS_MAX).default(PEERS_DEFAULT).describe('How many to return, at most.'),
    timeout_ms: waitField(WAIT_DEFAULT_MS),
    include_metrics: z.boolean().default(false).describe('Measured figures of the connected ones.'),
  }),
  output: z.object({
    peers: z.array(
      z.object({
        peer_id: z.string(),
        name: z.string().nullable(),
        multiaddrs: z.array(z.string()),
        capabilities: z
          .array(z.string())
          .nullable()
          .describe('Actions and labels of its workers, as it last said; null for one that was never connected.'),
        last_seen: timeOut,
        status: z.enum(['connected', 'connecting', 'disconnected']).describe('Its connection to the asked peer, now.'),
        source: sourceOut,
        metrics: metricsOut.optional().describe('With include_metrics.'),
      }),
    ),
    discovered_count: countOut,
    search_time_ms: msOut,
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: true },
  permission: 'peer:read',
  waitMs: ({ timeout_ms }) => timeout_ms,
  cli: {
    list: {
      field: 'peers',
      columns: ['peer_id', 'name', 'status', 'source', 'capabilities', 'last_seen', 'multiaddrs'],
    },
  },
  async handler({ capability_filter, max_peers, timeout_ms, include_metrics }, context) {
    const started = context.clock.now();
    const found = await search(capability_filter, max_peers, timeout_ms, context);
    const views = viewsById(context);
    const now = context.clock.wall();
    const peers = found
      .filter(({ peer_id }) => peer_id !== context.self)
      // For a peer that never said what it offers, the word of the DHT counts; for any other, its own word.
      .filter(({ peer_id }) => views.get(peer_id)?.state == null || offers(views.get(peer_id), capability_filter))
      .slice(0, max_peers)
      .map((connection) => {
        const view = views.get(connection.peer_id);
        return {
          peer_id: connection.peer_id,
          name: connection.name ?? view?.state?.name ?? null,
          multiaddrs: connection.multiaddrs,
          capabilities: capabilitiesOf(view),
          last_seen: connection.last_seen,
          status: connection.status,
          source: connection.source,
          ...(include_metrics && { metrics: metricsOf(connection, view, now) }),
        };
      });
    return { peers, discovered_count: peers.length, search_time_ms: rounded(context.clock.now() - started) };
  },
});

/** The connected peers, and those that the DHT names for each capability; without capabilities, all known peers. */
async function search(
  capabilities: string[],
  max_peers: number,
  timeout_ms: number,
  { peers, signal }: MeshContext,
): Promise<ConnectionInfo[]> {
  // Connected peers are in the answer, too, and may be filtered out later: they must not use up the limit.
  const limit = max_peers + peers.list().filter(({ status }) => status === 'connected').length;
  const asked = capabilities.length === 0 ? [[]] : capabilities.map(announcedAs);
  const [first = [], ...more] = await Promise.all(
    asked.map((names) => peers.discover({ capabilities: names, max_peers: limit, timeout_ms, signal })),
  );
  return first.filter(({ peer_id }) => more.every((found) => found.some((other) => other.peer_id === peer_id)));
}
