import { expect, it } from 'vitest';
import { parseInput } from '../../tools/call/envelope.ts';
import { tools } from '../../tools/registry.ts';

/** What clients wait for an answer when nobody tells them otherwise. */
const CLIENT_WAIT_MS = 60_000;

it('no call waits by default for longer than clients do', () => {
  const inputs = {
    worker_unregister: { worker_id: 'w' },
    bootstrap_network: {},
    peer_discover: {},
    peer_connect: { peer_id: 'p' },
  };
  for (const [tool, input] of Object.entries(inputs)) {
    const { timeout_ms } = parseInput(tools.get(tool)!, input);
    expect(timeout_ms, tool).toBeGreaterThan(0);
    expect(timeout_ms, tool).toBeLessThan(CLIENT_WAIT_MS);
  }
});
