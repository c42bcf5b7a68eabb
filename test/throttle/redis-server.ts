/** A real Redis of this machine, in a process of its own, on a port of its own. Undefined where there is none. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { eventually } from '../harness/eventually.ts';
import { fixedPorts } from '../harness/ports.ts';

export const HAS_REDIS = hasRedis();
/** For the name of a suite. */
export const SKIPPED_WITHOUT_REDIS = '(skipped where there is no redis-server: package redis-server)';

function hasRedis(): boolean {
  try {
    execFileSync('redis-server', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false; // Said by the name of the suite.
  }
}

export class RedisServer implements AsyncDisposable {
  readonly #port: number;
  #process: ChildProcess;

  private constructor(port: number) {
    this.#port = port;
    this.#process = start(port);
  }

  static async start(): Promise<RedisServer> {
    const server = new RedisServer((await fixedPorts(1))[0]!);
    await server.#answers();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.#port}`;
  }

  async kill(): Promise<void> {
    const exit = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exit;
  }

  /** It keeps its connections, and answers nothing any more. */
  halt(): void {
    this.#process.kill('SIGSTOP');
  }

  /** Starts it again, empty. */
  async restart(): Promise<void> {
    this.#process = start(this.#port);
    await this.#answers();
  }

  async #answers(): Promise<void> {
    await eventually('redis-server listens', async () => {
      const socket = connect(this.#port, '127.0.0.1');
      try {
        await once(socket, 'connect');
        return true;
      } finally {
        socket.destroy();
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) await this.kill();
  }
}

function start(port: number): ChildProcess {
  const settings = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
  return spawn('redis-server', settings, { stdio: 'ignore', cwd: '/' });
}
