/** Ports that stay a peer's own while it is down: below those that the system hands out to everybody. */
import { createServer } from 'node:net';

const FIRST = 20_000;
const COUNT = 10_000;
const TRIES_MAX = 100;

/** So many different ports of loopback that nobody listens on. */
export async function fixedPorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  for (let tries = 0; ports.size < count; tries++) {
    if (tries === count + TRIES_MAX) throw new Error(`${count} free ports were not found in ${tries} tries`);
    const port = FIRST + Math.floor(Math.random() * COUNT);
    if (await isFree(port)) ports.add(port);
  }
  return [...ports];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
