/** The figures that the peer tools compute from measurements. A figure without a measurement is null. */
import { z } from 'zod';
import type { PeerView } from '../../scheduler/api.ts';
import type { MeshContext } from '../definition.ts';
import { countOut, rounded } from '../fields.ts';
import type { ConnectionInfo } from '../peers.ts';

/** A round trip this long halves the connection quality. */
const RTT_HALF_MS = 100;
/** This much jitter halves the connection quality. */
const JITTER_HALF_MS = 50;
const HOUR_MS = 3_600_000;
const BITS_PER_BYTE = 8;
const BITS_PER_MEGABIT = 1_000_000;
const MS_PER_SECOND = 1_000;

export const metricsOut = z.object({
  latency_ms: z.number().nullable().describe('Smoothed round trip between the two peers.'),
  jitter_ms: z.number().nullable().describe('How much round trips differ.'),
  bandwidth_mbps: z
    .number()
    .nullable()
    .describe('Megabits per second that went over the connection since it was opened, both ways: used, not possible.'),
  connection_quality: z
    .number()
    .nullable()
    .describe('0–1, from round trip, jitter and lost leases; 0.5 is a round trip of 100 ms with nothing else wrong.'),
  reliability_score: z.number().nullable().describe('Share of the leases given to it that it kept, 0–1.'),
  uptime_hours: z
    .number()
    .nullable()
    .describe('How long it has been connected; of this peer itself, how long it runs.'),
  requests_served: countOut.nullable().describe('Requests of it that this peer answered.'),
  bytes_sent: countOut,
  bytes_received: countOut,
});
export type PeerMetrics = z.infer<typeof metricsOut>;

/**
 * 0–1, higher is better: the product of `1 / (1 + rtt / 100 ms)`, `1 / (1 + jitter / 50 ms)` and the share of leases
 * kept. Jitter and leases count as perfect until they are measured. Null without a measured round trip.
 */
export function connectionQuality(view: PeerView | undefined): number | null {
  if (view === undefined || view.rtt_ms === null) return null;
  const speed = 1 / (1 + view.rtt_ms / RTT_HALF_MS);
  const steadiness = 1 / (1 + (view.jitter_ms ?? 0) / JITTER_HALF_MS);
  return rounded(speed * steadiness * (reliability(view) ?? 1));
}

/** The share of ended leases that the peer kept, 0–1; null before the first has ended. */
export function reliability(view: Pick<PeerView, 'leases_kept' | 'leases_lost'> | undefined): number | null {
  if (view === undefined) return null;
  const ended = view.leases_kept + view.leases_lost;
  return ended === 0 ? null : rounded(view.leases_kept / ended);
}

/** The mean traffic of an open connection, both directions together, in Mbit/s; null when there is none. */
export function bandwidthMbps(connection: ConnectionInfo, nowMs: number): number | null {
  const ms = connectedMs(connection, nowMs);
  if (ms === null || ms <= 0) return null;
  const bits = (connection.bytes_sent + connection.bytes_received) * BITS_PER_BYTE;
  return rounded(bits / BITS_PER_MEGABIT / (ms / MS_PER_SECOND), 6);
}

function connectedMs({ status, connected_since }: ConnectionInfo, nowMs: number): number | null {
  if (status !== 'connected' || connected_since === null) return null;
  return Math.max(nowMs - Date.parse(connected_since), 0);
}

export function metricsOf(connection: ConnectionInfo, view: PeerView | undefined, nowMs: number): PeerMetrics {
  const connected = connectedMs(connection, nowMs);
  return {
    latency_ms: view?.rtt_ms == null ? null : rounded(view.rtt_ms),
    jitter_ms: view?.jitter_ms == null ? null : rounded(view.jitter_ms),
    bandwidth_mbps: bandwidthMbps(connection, nowMs),
    connection_quality: connectionQuality(view),
    reliability_score: reliability(view),
    uptime_hours: connected === null ? null : rounded(connected / HOUR_MS),
    requests_served: view?.requests_served ?? null,
    bytes_sent: connection.bytes_sent,
    bytes_received: connection.bytes_received,
  };
}

/** The metrics of this peer itself: its traffic with all others, and the requests it has answered for them. */
export function ownMetrics({ peers, scheduler, clock }: MeshContext): PeerMetrics {
  const connections = peers.list();
  return {
    latency_ms: null,
    jitter_ms: null,
    bandwidth_mbps: null,
    connection_quality: null,
    reliability_score: null,
    uptime_hours: rounded(Math.max(clock.wall() - Date.parse(peers.started_at), 0) / HOUR_MS),
    requests_served: scheduler.peers().reduce((sum, view) => sum + view.requests_served, 0),
    bytes_sent: connections.reduce((sum, each) => sum + each.bytes_sent, 0),
    bytes_received: connections.reduce((sum, each) => sum + each.bytes_received, 0),
  };
}
