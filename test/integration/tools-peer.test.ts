/**
 * The six peer tools over MCP, on a mesh that begins as a line A–B–C where only C has the label `gpu`: A finds C in the
 * DHT, connects to it, and is cut off from it again.
 */
import { expect } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { waitUntilGone } from '../executors/processes.ts';
import { eventually } from '../harness/eventually.ts';
import { coverTools, refused, TOOLS, type ToolPeer, toolMesh } from './tool-mesh.ts';

const mesh = toolMesh({
  topology: 'line',
  args: (index) => ['--allow-shell', '*', '--slots', '4', ...(index === 2 ? ['--label', 'gpu'] : [])],
});

const PAYLOAD_CHARS = 200_000;
/** A PeerId that is nobody's. */
const STRANGER = '12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5';

interface Peer extends JsonObject {
  peer_id: string;
  status: string;
  multiaddrs: string[];
  source: string;
}
const peersOf = ({ peers }: JsonObject) => peers as Peer[];
const ids = (answer: JsonObject) => peersOf(answer).map(({ peer_id }) => peer_id);
const find = (answer: JsonObject, of: ToolPeer) => peersOf(answer).find(({ peer_id }) => peer_id === of.peer_id);

const apart = () =>
  eventually('A and C are apart, each with B alone', async () => {
    const [ofA, ofC] = await Promise.all([mesh.a.neighbours(), mesh.c.neighbours()]);
    return ofA.join() === mesh.b.peer_id && ofC.join() === mesh.b.peer_id;
  });

const gpuTask = (task_id: string) => ({ task_id, task_type: 'echo', requires: { labels: ['gpu'] } });

coverTools(TOOLS.peer, mesh, {
  effects: {
    async peer_discover() {
      const { a, b, c } = mesh;
      await apart();
      const found = await eventually('the DHT names C', async () => {
        const answer = await a.call('peer_discover', { capability_filter: ['gpu'], timeout_ms: 5_000 });
        return answer['discovered_count'] === 1 && answer;
      });
      expect(find(found, c)).toMatchObject({ source: 'dht', multiaddrs: c.process.record!.addresses });
      await apart(); // It only looks.

      // The connected B comes with its figures; a capability that nobody has finds nobody.
      const all = await c.call('peer_discover', { capability_filter: ['shell', 'echo'], include_metrics: true });
      expect(find(all, b)).toMatchObject({ metrics: { bytes_received: expect.any(Number) } });
      const nobody = await a.call('peer_discover', { capability_filter: ['gpu', 'no-such'], timeout_ms: 1_000 });
      expect(nobody).toMatchObject({ peers: [], discovered_count: 0 });
    },

    async peer_connect() {
      const { a, b, c } = mesh;
      await apart();
      const [multiaddr] = c.process.record!.addresses;
      const connected = await a.call('peer_connect', { multiaddr: multiaddr! });
      expect(connected).toMatchObject({
        ...{ peer_id: c.peer_id, attempts: 1, protocol_version: expect.stringMatching(/^\d+\.\d+\.\d+$/) },
        peer_capabilities: ['echo', 'gpu', 'http', 'shell'],
      });
      expect(await c.neighbours()).toEqual([a.peer_id, b.peer_id].sort());
      expect(find(await c.call('peer_list'), a)).toMatchObject({ status: 'connected', direction: 'inbound' });
      // Once more it is the same connection.
      const again = await a.call('peer_connect', { peer_id: c.peer_id });
      expect(again['connection_id']).toBe(connected['connection_id']);
      await a.call('task_submit', gpuTask('connected'));
      expect(await b.taskEnds('connected')).toMatchObject({ status: 'completed', peer_id: c.peer_id });
    },

    async peer_disconnect() {
      const { a, b, c } = mesh;
      await a.call('peer_connect', { multiaddr: c.process.record!.addresses[0]! });
      // What the two run for each other is handed back first, and waits while nobody else can run it.
      const [gate, other] = [mesh.gate('of-a'), mesh.gate('of-c')];
      const shell = (at: ToolPeer, { command }: typeof gate) => {
        return { task_type: 'shell', payload: { command }, requires: { peers: [at.peer_id] } };
      };
      await a.call('task_submit', { task_id: 'of-a', ...shell(c, gate) });
      await c.call('task_submit', { task_id: 'of-c', ...shell(a, other) });
      const pids = await Promise.all([gate.pid(), other.pid()]);
      const gone = await a.call('peer_disconnect', { peer_id: c.peer_id, reason: 'maintenance' });
      expect(gone).toMatchObject({
        ...{ was_connected: true, graceful: true, cleanup_performed: true, handed_back: 2, reason: 'maintenance' },
      });
      await apart();
      expect(find(await c.call('peer_list'), a)).toMatchObject({ status: 'disconnected', connected_since: null });
      const looked = find(await a.call('peer_discover', { timeout_ms: 1_000 }), c);
      expect(looked).toMatchObject({ status: 'disconnected', source: expect.stringMatching(/^(met|dht)$/) });
      await waitUntilGone(pids);
      for (const task_id of ['of-a', 'of-c']) {
        expect(await b.call('task_status', { task_id })).toMatchObject({ status: 'queued', attempt: 1 });
      }
      expect(await a.call('peer_disconnect', { peer_id: c.peer_id })).toMatchObject({ was_connected: false });
      await Promise.all([gate.open(), other.open()]);
      await a.call('peer_connect', { peer_id: c.peer_id });
      expect(await b.taskEnds('of-a')).toMatchObject({ status: 'completed', attempt: 2, peer_id: c.peer_id });
      expect(await b.taskEnds('of-c')).toMatchObject({ status: 'completed', attempt: 2, peer_id: a.peer_id });
      await a.call('peer_disconnect', { peer_id: c.peer_id });
    },

    async peer_list() {
      const { a, b, c } = mesh;
      await apart();
      const list = (input: JsonObject) => a.call('peer_list', input);
      expect(ids(await list({ status_filter: 'connected' }))).toEqual([b.peer_id]);
      expect(ids(await list({ status_filter: 'disconnected' }))).toEqual([c.peer_id]);
      expect(find(await list({}), b)).toMatchObject({
        ...{ name: 'peer-1', status: 'connected', slots: 9, queued_tasks: expect.any(Number) },
        capabilities: expect.arrayContaining(['echo', 'seeded', 'shell']),
      });
      expect(find(await list({}), b)?.['latency_ms']).toBeGreaterThan(0);
      expect(ids(await b.call('peer_list', { sort_by: 'peer_id' }))).toEqual([a.peer_id, c.peer_id].sort());
      expect(ids(await b.call('peer_list', { capability_filter: ['gpu', 'shell'] }))).toEqual([c.peer_id]);
      // No single worker of B offers both.
      expect(ids(await list({ capability_filter: ['seeded', 'shell'] }))).toEqual([]);
      const page = await b.call('peer_list', { sort_by: 'peer_id', limit: 1 });
      expect(page).toMatchObject({ total_count: 2, returned_count: 1, has_more: true });
      expect(ids(await b.call('peer_list', { sort_by: 'peer_id', limit: 1, offset: 1 }))).toEqual(
        [a.peer_id, c.peer_id].sort().slice(1),
      );
    },

    async peer_metrics() {
      const { b, c } = mesh;
      const figures = async (at: ToolPeer, of: ToolPeer) => {
        const answer = await at.call('peer_metrics', { peer_id: of.peer_id, include_history: true });
        return answer as unknown as {
          current_metrics: { bytes_sent: number; bytes_received: number; requests_served: number; latency_ms: number };
          leases: { kept: number; lost: number };
          connection_info: JsonObject;
          history: unknown[];
        };
      };
      const [sender, receiver] = await Promise.all([figures(b, c), figures(c, b)]);
      expect(sender.connection_info).toMatchObject({ status: 'connected', direction: 'inbound' });
      expect(receiver.connection_info).toMatchObject({ status: 'connected', direction: 'outbound' });
      await b.call('task_submit', { ...gpuTask('traffic'), payload: { text: 'x'.repeat(PAYLOAD_CHARS) } });
      await b.taskEnds('traffic');
      const [sent, received] = await Promise.all([figures(b, c), figures(c, b)]);
      // The payload went there, and came back as the output.
      for (const [before, after] of [
        [sender, sent],
        [receiver, received],
      ] as const) {
        const [was, is] = [before.current_metrics, after.current_metrics];
        expect(is.bytes_sent - was.bytes_sent).toBeGreaterThan(PAYLOAD_CHARS);
        expect(is.bytes_received - was.bytes_received).toBeGreaterThan(PAYLOAD_CHARS);
        expect(is.requests_served).toBeGreaterThan(was.requests_served);
        expect(is.latency_ms).toBeGreaterThan(0);
      }
      expect(sent.leases).toEqual({ kept: sender.leases.kept + 1, lost: sender.leases.lost });
      expect(sent.history).toEqual([]);

      const own = await figures(b, b);
      expect(own).toMatchObject({ connection_info: null, leases: null });
      expect(own.current_metrics.bytes_sent).toBeGreaterThanOrEqual(sent.current_metrics.bytes_sent);
    },

    async bootstrap_network() {
      const { a, b, c } = mesh;
      await apart();
      const nodes = [c.process.record!.addresses[0]!, '/ip4/127.0.0.1/tcp/1'];
      const joined = await a.call('bootstrap_network', { bootstrap_nodes: nodes, min_connections: 1 });
      expect(joined).toMatchObject({
        ...{ connected_count: 1, failed_count: 1, network_ready: true, connected_peers: [c.peer_id] },
        bootstrap_nodes_used: nodes,
        failures: [{ address: '/ip4/127.0.0.1/tcp/1', message: expect.stringMatching(/\w/) }],
      });
      expect(await c.neighbours()).toEqual([a.peer_id, b.peer_id].sort());
      expect(find(await a.call('peer_list'), c)).toMatchObject({ status: 'connected' });
      // Without addresses it is those that the peer was started with: C's is B.
      expect(await c.call('bootstrap_network')).toMatchObject({ connected_peers: [b.peer_id], network_ready: true });
      const short = await a.call('bootstrap_network', { bootstrap_nodes: nodes.slice(1), timeout_ms: 2_000 });
      expect(short).toMatchObject({ connected_count: 0, network_ready: false });
    },
  },

  refusals: () => ({
    peer_discover: [
      refused('INVALID_INPUT', /max_peers/, { max_peers: 0 }),
      refused('INVALID_INPUT', /capability_filter: must be a list/, { capability_filter: 'gpu' }),
      refused('INVALID_INPUT', /did you mean "timeout_ms"/, { timeout_m: 5_000 }),
    ],
    peer_connect: [
      refused('INVALID_INPUT', /give peer_id, multiaddr, or both/, {}),
      refused('INVALID_INPUT', /multiaddr/, { multiaddr: '127.0.0.1:7600' }),
      refused('INVALID_ADDRESS', /ip5/, { multiaddr: '/ip5/127.0.0.1/tcp/7600' }),
      refused('INVALID_TARGET', /this peer itself/, { peer_id: mesh.a.peer_id }),
      refused('PEER_UNREACHABLE', /127\.0\.0\.1\/tcp\/1/, { multiaddr: '/ip4/127.0.0.1/tcp/1', retry_count: 1 }),
      refused('PEER_UNREACHABLE', new RegExp(STRANGER), {
        ...{ peer_id: STRANGER, multiaddr: '/ip4/127.0.0.1/tcp/1', retry_count: 0 },
      }),
    ],
    peer_disconnect: [
      refused('NOT_FOUND', /"nobody".*peer_list/, { peer_id: 'nobody' }),
      refused('INVALID_INPUT', /peer_id: is missing/, { reason: 'x' }),
      refused('INVALID_INPUT', /graceful/, { peer_id: mesh.b.peer_id, graceful: 'yes' }),
    ],
    peer_list: [
      refused('INVALID_INPUT', /limit/, { limit: 1_001 }),
      refused('INVALID_INPUT', /did you mean "latency"/, { sort_by: 'latncy' }),
      refused('INVALID_INPUT', /status_filter/, { status_filter: 'gone' }),
    ],
    peer_metrics: [
      refused('NOT_FOUND', /"nobody"/, { peer_id: 'nobody' }),
      refused('INVALID_INPUT', /history_hours/, { peer_id: mesh.b.peer_id, history_hours: 25 }),
    ],
    bootstrap_network: [
      refused('INVALID_INPUT', /min_connections: must not be larger/, { min_connections: 3, max_connections: 2 }),
      refused('INVALID_INPUT', /bootstrap_nodes\[0\]: must be a multiaddr/, { bootstrap_nodes: ['localhost'] }),
      refused('INVALID_ADDRESS', /ip5/, { bootstrap_nodes: ['/ip5/127.0.0.1/tcp/7600'] }),
    ],
  }),
});
