/**
 * The connections of this peer, as the six peer tools use them. Implemented on libp2p in `node/p2p/`.
 * Every figure is measured; one that is not known yet is null.
 */
export interface ConnectionInfo {
  peer_id: string;
  name: string | null;
  status: 'connected' | 'connecting' | 'disconnected';
  multiaddrs: string[];
  /** ISO 8601 UTC, as `last_seen`. */
  connected_since: string | null;
  last_seen: string | null;
  direction: 'inbound' | 'outbound' | null;
  /** How its connection goes; null while there is none. */
  path: 'direct' | 'relayed' | null;
  /** The peer that a relayed connection goes through. */
  relay: string | null;
  /** Why it is relayed, in a sentence without an end. */
  path_reason: string | null;
  /** How this peer learned of the other. `met`: the two were connected before, and are not now. */
  source: 'dht' | 'connected' | 'met' | 'mdns' | 'bootstrap';
  protocol_version: string | null;
  bytes_sent: number;
  bytes_received: number;
  connection_id: string | null;
}

export interface ConnectResult {
  peer_id: string;
  connection_id: string;
  connection_time_ms: number;
  protocol_version: string;
  attempts: number;
}

export interface PeerDirectory {
  /** Known peers, connected or not; bounded by PEERS_KNOWN_MAX. */
  list(): ConnectionInfo[];
  /** Dials and greets a peer. @throws PEER_UNREACHABLE with the last cause, WRONG_MESH or VERSION_MISMATCH */
  connect(target: {
    peer_id: string | undefined;
    multiaddr: string | undefined;
    timeout_ms: number;
    retry_count: number;
    persist: boolean;
    signal: AbortSignal;
  }): Promise<ConnectResult>;
  /** Closes the connection; this peer does not dial again by itself until `connect`, or the other side does. */
  disconnect(peer_id: string, reason: string | undefined): Promise<{ was_connected: boolean }>;
  /** Asks the DHT for peers with each capability (for all it knows, without any), and adds the connected peers. */
  discover(query: {
    capabilities: string[];
    max_peers: number;
    timeout_ms: number;
    signal: AbortSignal;
  }): Promise<ConnectionInfo[]>;
  /** Dials bootstrap addresses (those of the mesh file when the list is empty). */
  bootstrap(options: {
    addresses: string[];
    timeout_ms: number;
    min_connections: number;
    max_connections: number;
    signal: AbortSignal;
  }): Promise<{ used: string[]; connected: string[]; failed: { address: string; message: string }[] }>;
  /** Samples of the last `hours`, at most 24, one a minute while connected, oldest first. */
  history(
    peer_id: string,
    hours: number,
  ): { at: string; latency_ms: number | null; bytes_sent: number; bytes_received: number }[];
  /** Wall-clock start of this peer, ISO 8601. */
  started_at: string;
}
