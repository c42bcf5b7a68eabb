/**
 * The floor under everything: bytes to another process and back over plain TCP on loopback. The two processes run
 * nothing else.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { nowNs, type Samples } from './probes.ts';

const NS_PER_MS = 1_000_000;

export class TcpFloor implements Disposable {
  readonly #server: ChildProcess;
  readonly #client: ChildProcess;

  private constructor(server: ChildProcess, client: ChildProcess) {
    this.#server = server;
    this.#client = client;
  }

  /** @param sizeBytes of a message; it comes back whole */
  static async start(sizeBytes: number): Promise<TcpFloor> {
    const server = fork(import.meta.filename, ['server']);
    const [port] = (await once(server, 'message')) as [number];
    const client = fork(import.meta.filename, ['client', String(port), String(sizeBytes)]);
    await once(client, 'message');
    return new TcpFloor(server, client);
  }

  async measure(iterations: number): Promise<Samples> {
    this.#client.send(iterations);
    const [samples] = (await once(this.#client, 'message')) as [Samples];
    return samples;
  }

  [Symbol.dispose](): void {
    this.#client.disconnect();
    this.#server.disconnect();
  }
}

async function serveEcho(): Promise<void> {
  const server = createServer({ noDelay: true }, (socket) => socket.on('data', (chunk) => socket.write(chunk)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  process.send!((server.address() as AddressInfo).port);
}

async function serveMeasurements(port: number, sizeBytes: number): Promise<void> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  await once(socket, 'connect');
  const message = Buffer.alloc(sizeBytes, 'x');
  process.on('message', async (iterations: number) => {
    const samples: Samples = [];
    for (let index = 0; index < iterations; index++) samples.push(await roundTrip(socket, message));
    process.send!(samples);
  });
  process.send!('ready');
}

function roundTrip(socket: Socket, message: Buffer): Promise<number> {
  return new Promise((resolve) => {
    let missing = message.length;
    const onData = (chunk: Buffer) => {
      missing -= chunk.length;
      if (missing > 0) return;
      socket.off('data', onData);
      resolve(Number(nowNs() - started) / NS_PER_MS);
    };
    socket.on('data', onData);
    const started = nowNs();
    socket.write(message);
  });
}

if (import.meta.main) {
  const [role, port, size] = process.argv.slice(2);
  process.once('disconnect', () => process.exit());
  if (role === 'server') await serveEcho();
  else await serveMeasurements(Number(port), Number(size));
}
