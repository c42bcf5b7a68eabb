/**
 * The cables between the processes of a mesh, to be cut and mended. Each peer dials each other one through a TCP proxy
 * of its own (`cabled-dials.ts` sees to it), so that what peers tell each other about their addresses stays true:
 *
 *   await using cables = await Cables.lay(3);
 *   await using mesh = await startProcesses(3, cables.options());
 *   const mend = cables.cut(around(2), 'silent');
 *   mend();
 *
 * Network namespaces would not do instead: peers listen on loopback alone, which two namespaces never share.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { fixedPorts } from './ports.ts';
import type { ProcessesOptions } from './processes.ts';

const HOST = '127.0.0.1';
const DIALS = join(import.meta.dirname, 'cabled-dials.ts');

/** closed: connections are reset and new ones too. silent: they stay open and nothing comes through, also no end. */
export type CutKind = 'closed' | 'silent';

/** Which pairs, by index, in either order. */
export type Pairs = (a: number, b: number) => boolean;

export function between(one: number, other: number): Pairs {
  return (a, b) => (a === one && b === other) || (a === other && b === one);
}

/** All cables of one peer. */
export function around(one: number): Pairs {
  return (a, b) => a === one || b === one;
}

export class Cables implements AsyncDisposable {
  /** Where each peer listens, by index. */
  readonly #ports: number[];
  readonly #cables: Cable[];
  readonly #cuts = new Set<{ pairs: Pairs; how: CutKind }>();

  private constructor(ports: number[], cables: Cable[]) {
    this.#ports = ports;
    this.#cables = cables;
  }

  static async lay(count: number): Promise<Cables> {
    const ports = await fixedPorts(count);
    const indices = ports.map((_, index) => index);
    const pairs = indices.flatMap((from) => indices.filter((to) => to !== from).map((to) => ({ from, to })));
    return new Cables(ports, await Promise.all(pairs.map(({ from, to }) => Cable.lay(from, to, ports[to]!))));
  }

  /** Of `startProcesses`; what is given is kept. */
  options({ args = [], env = {}, ...rest }: ProcessesOptions = {}): ProcessesOptions {
    return {
      ...rest,
      args: (index) => [
        ...(typeof args === 'function' ? args(index) : args),
        ...['--listen', `/ip4/${HOST}/tcp/${this.#ports[index]}`],
      ],
      env: (index) => ({ ...(typeof env === 'function' ? env(index) : env), ...this.#envOf(index) }),
    };
  }

  /** @returns what mends it; a pair that several cuts name is whole when all are mended */
  cut(pairs: Pairs, how: CutKind): () => void {
    const cut = { pairs, how };
    this.#cuts.add(cut);
    this.#apply();
    return () => {
      this.#cuts.delete(cut);
      this.#apply();
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#cables.map((cable) => cable.remove()));
  }

  #envOf(index: number): Record<string, string> {
    const routes = this.#cables
      .filter(({ from }) => from === index)
      .map(({ to, port }): [number, number] => [this.#ports[to]!, port]);
    const options = [process.env['NODE_OPTIONS'], `--import=${DIALS}`].filter((each) => each !== undefined);
    return { NODE_OPTIONS: options.join(' '), CABLES: JSON.stringify(Object.fromEntries(routes)) };
  }

  #apply(): void {
    for (const cable of this.#cables) {
      const cuts = [...this.#cuts].filter(({ pairs }) => pairs(cable.from, cable.to));
      const closed = cuts.some(({ how }) => how === 'closed');
      cable.become(closed ? 'closed' : cuts.length > 0 ? 'silent' : 'whole');
    }
  }
}

/** What one peer dials another one through. */
class Cable {
  readonly from: number;
  readonly to: number;
  readonly #target: number;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  #state: CutKind | 'whole' = 'whole';

  private constructor(from: number, to: number, target: number, server: Server) {
    this.from = from;
    this.to = to;
    this.#target = target;
    this.#server = server.on('connection', (socket: Socket) => this.#accept(socket));
  }

  static async lay(from: number, to: number, target: number): Promise<Cable> {
    const server = createServer({ pauseOnConnect: true }).listen(0, HOST);
    await once(server, 'listening');
    return new Cable(from, to, target, server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  become(state: CutKind | 'whole'): void {
    if (state === this.#state) return;
    this.#state = state;
    for (const connection of this.#connections) this.#put(connection);
  }

  async remove(): Promise<void> {
    this.#server.close();
    this.become('closed');
    await once(this.#server, 'close');
  }

  #accept(socket: Socket): void {
    const connection = new Connection(socket, this.#target, () => this.#connections.delete(connection));
    this.#connections.add(connection);
    this.#put(connection);
  }

  #put(connection: Connection): void {
    if (this.#state === 'closed') connection.reset();
    else if (this.#state === 'silent') connection.hold();
    else connection.flow();
  }
}

class Connection {
  readonly #near: Socket;
  readonly #target: number;
  readonly #ended: () => void;
  /** Undefined until the cable was whole once since the dial. */
  #far: Socket | undefined;
  #flows = false;

  constructor(near: Socket, target: number, ended: () => void) {
    // A peer that is killed resets its connections; `close` comes after the error.
    this.#near = near.on('error', () => {});
    this.#target = target;
    this.#ended = ended;
  }

  flow(): void {
    this.#flows = true;
    if (this.#far === undefined) {
      this.#far = connect(this.#target, HOST).on('error', () => {});
      this.#forward(this.#near, this.#far);
      this.#forward(this.#far, this.#near);
    }
    this.#near.resume();
    this.#far.resume();
    this.#passEnds();
  }

  hold(): void {
    this.#flows = false;
    this.#near.pause();
    this.#far?.pause();
  }

  reset(): void {
    this.#near.resetAndDestroy();
    this.#far?.resetAndDestroy();
    this.#ended();
  }

  #forward(from: Socket, to: Socket): void {
    from.on('data', (chunk) => {
      if (!to.write(chunk)) from.pause();
    });
    to.on('drain', () => {
      if (this.#flows) from.resume();
    });
    from.on('end', () => this.#passEnds());
    from.on('close', () => this.#passEnds());
  }

  /** Each side sees the end of the other, but not through a silent cable: then when it is whole again. */
  #passEnds(): void {
    const [near, far] = [this.#near, this.#far!];
    if (!this.#flows) return;
    if (near.errored !== null || far.errored !== null) {
      this.reset();
      return;
    }
    if (near.readableEnded) far.end();
    if (far.readableEnded) near.end();
    if (near.closed && far.closed) this.#ended();
  }
}
