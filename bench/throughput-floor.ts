/**
 * The floor under throughput: the same rows fsynced by SQLite and the same messages over plain TCP on loopback, by two
 * processes that do nothing else. The client process keeps rows in a file of its own; the keeper sends messages back
 * as a worker would and, for a second copy, keeps the rows in its file as a follower would.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { nowNs, type Samples } from './probes.ts';

/** About what a task's row and its messages have. */
const ROW_BYTES = 1_000;
const MESSAGE_BYTES = 400;
const NS_PER_MS = 1_000_000;

/** What one piece of work keeps: first what was submitted, then what each turn of messages brought. */
export interface FloorWork {
  /** Rows of each commit, one after the other; before each but the first as many messages go there and back. */
  commits: number[];
  copies: number;
  times: number;
}

export class ThroughputFloor implements Disposable {
  readonly #keeper: ChildProcess;
  readonly #client: ChildProcess;

  private constructor(keeper: ChildProcess, client: ChildProcess) {
    this.#keeper = keeper;
    this.#client = client;
  }

  /** @param root the files are made in it, and left there */
  static async start(root: string): Promise<ThroughputFloor> {
    const keeper = fork(import.meta.filename, ['keeper', join(root, 'floor-keeper.db')]);
    const [port] = (await once(keeper, 'message')) as [number];
    const client = fork(import.meta.filename, ['client', join(root, 'floor-client.db'), String(port)]);
    await once(client, 'message');
    return new ThroughputFloor(keeper, client);
  }

  /** @returns how long each of the `times` took, in milliseconds */
  async measure(work: FloorWork): Promise<Samples> {
    this.#client.send(work);
    const [samples] = (await once(this.#client, 'message')) as [Samples];
    return samples;
  }

  [Symbol.dispose](): void {
    this.#client.disconnect();
    this.#keeper.disconnect();
  }
}

class RowFile {
  readonly #database: DatabaseSync;
  readonly #row = 'x'.repeat(ROW_BYTES);

  constructor(path: string) {
    this.#database = new DatabaseSync(path);
    this.#database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE rows (data TEXT NOT NULL)');
  }

  /** Returns when they are fsynced. */
  keep(rows: number): void {
    const insert = this.#database.prepare('INSERT INTO rows VALUES (?)');
    this.#database.exec('BEGIN');
    for (let index = 0; index < rows; index++) insert.run(this.#row);
    this.#database.exec('COMMIT');
  }
}

/** A message says in its first byte what it is for. */
const ECHO = 0;
const KEEP = 1;

async function serveKeeper(path: string): Promise<void> {
  const file = new RowFile(path);
  const server = createServer({ noDelay: true }, (socket) => {
    const what = { left: 0, kind: ECHO, rows: 0 };
    socket.on('data', (chunk) => {
      if (what.left === 0) {
        what.kind = chunk[0]!;
        what.rows = chunk.readUInt32BE(1);
        what.left = sizeOf(what.kind, what.rows);
      }
      what.left -= chunk.length;
      if (what.kind === ECHO) socket.write(chunk);
      else if (what.left === 0) {
        file.keep(what.rows);
        socket.write(Buffer.alloc(1));
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  process.send!((server.address() as AddressInfo).port);
}

async function serveClient(path: string, port: number): Promise<void> {
  const file = new RowFile(path);
  const worker = connect({ port, host: '127.0.0.1', noDelay: true });
  const follower = connect({ port, host: '127.0.0.1', noDelay: true });
  await Promise.all([once(worker, 'connect'), once(follower, 'connect')]);
  process.on('message', async ({ commits, copies, times }: FloorWork) => {
    const samples: Samples = [];
    for (let index = 0; index < times; index++) {
      const started = nowNs();
      for (const [turn, rows] of commits.entries()) {
        if (turn > 0) await exchange(worker, ECHO, rows, sizeOf(ECHO, rows));
        const copied = copies > 1 ? exchange(follower, KEEP, rows, 1) : undefined;
        file.keep(rows);
        await copied;
      }
      samples.push(Number(nowNs() - started) / NS_PER_MS);
    }
    process.send!(samples);
  });
  process.send!('ready');
}

function exchange(socket: Socket, kind: number, rows: number, answerBytes: number): Promise<void> {
  const message = Buffer.alloc(sizeOf(kind, rows));
  message[0] = kind;
  message.writeUInt32BE(rows, 1);
  return new Promise((resolve) => {
    let missing = answerBytes;
    const onData = (chunk: Buffer) => {
      missing -= chunk.length;
      if (missing > 0) return;
      socket.off('data', onData);
      resolve();
    };
    socket.on('data', onData);
    socket.write(message);
  });
}

function sizeOf(kind: number, rows: number): number {
  return rows * (kind === KEEP ? ROW_BYTES : MESSAGE_BYTES);
}

if (import.meta.main) {
  const [role, path, port] = process.argv.slice(2);
  process.once('disconnect', () => process.exit());
  if (role === 'keeper') await serveKeeper(path!);
  else await serveClient(path!, Number(port));
}
