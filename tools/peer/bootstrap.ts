/** `bootstrap_network`: joins the mesh, or joins it again. */
import { z } from 'zod';
import { defineMeshTool } from '../definition.ts';
import { countOut, multiaddrField, rounded, waitField } from '../fields.ts';

/** Less than clients wait for an answer. */
const WAIT_DEFAULT_MS = 45_000;
const NODES_MAX = 100;
const CONNECTIONS_DEFAULT = 10;
const CONNECTIONS_MAX = 100;

export const bootstrapNetwork = defineMeshTool({
  name: 'bootstrap_network',
  title: 'Bootstrap the network',
  description:
    'Dials bootstrap addresses so that the asked peer joins the mesh: those given, or those of its own configuration. Peers do this by themselves at their start and go on trying; use it to join now, or through other addresses. It answers with who was reached; network_ready is false when fewer than min_connections were.',
  input: z
    .strictObject({
      bootstrap_nodes: z
        .array(multiaddrField)
        .max(NODES_MAX)
        .default([])
        .describe('Multiaddrs to dial, e.g. /ip4/127.0.0.1/tcp/7600; when empty, those of the mesh file.'),
      timeout_ms: waitField(WAIT_DEFAULT_MS),
      min_connections: z
        .number()
        .int()
        .min(0)
        .max(CONNECTIONS_MAX)
        .default(1)
        .describe('How many connected peers count as ready.'),
      max_connections: z
        .number()
        .int()
        .min(1)
        .max(CONNECTIONS_MAX)
        .default(CONNECTIONS_DEFAULT)
        .describe('How many to connect to, at most.'),
    })
    .refine(({ min_connections, max_connections }) => min_connections <= max_connections, {
      path: ['min_connections'],
      error: 'must not be larger than max_connections',
    }),
  output: z.object({
    connected_count: countOut.describe('Peers reached by this call, or connected already.'),
    failed_count: countOut,
    bootstrap_nodes_used: z.array(z.string()),
    connected_peers: z.array(z.string()).describe('Their PeerIds.'),
    failures: z.array(z.object({ address: z.string(), message: z.string() })),
    network_ready: z.boolean(),
    bootstrap_time_ms: z.number(),
  }),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: true },
  permission: 'peer:write',
  waitMs: ({ timeout_ms }) => timeout_ms,
  cli: { list: { field: 'failures', columns: ['address', 'message'] } },
  async handler({ bootstrap_nodes, timeout_ms, min_connections, max_connections }, { peers, clock, signal }) {
    const started = clock.now();
    const { used, connected, failed } = await peers.bootstrap({
      addresses: bootstrap_nodes,
      timeout_ms,
      min_connections,
      max_connections,
      signal,
    });
    return {
      connected_count: connected.length,
      failed_count: failed.length,
      bootstrap_nodes_used: used,
      connected_peers: connected,
      failures: failed,
      network_ready: connected.length >= min_connections,
      bootstrap_time_ms: rounded(clock.now() - started),
    };
  },
});
