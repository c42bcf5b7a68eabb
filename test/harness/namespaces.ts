/**
 * A small internet of network namespaces: hosts with addresses of their own, a router between them, and home routers
 * that masquerade, so that what is behind them cannot be dialled:
 *
 *   describe.skipIf(NO_NAMESPACES !== null)(`over networks${skipNote(NO_NAMESPACES)}`, () => {
 *     await using net = await Internet.make();
 *     const server = await net.host('server');
 *     const home = await net.home('home');
 *     const desk = await home.host('desk');
 *     const mend = net.cut(server, desk);   // what server sends to desk is dropped, the other way passes
 *     await desk.moveTo(net);               // another address, in another network
 *     desk.spawn('node', ['--version']);
 *
 * Leaving the block ends what still runs in the namespaces and removes them. Nothing of it touches the machine's own
 * network. What a run that was killed has left is removed by the next one.
 */
import { type ChildProcess, execFile, execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Followed by the id of the process that made it. */
const PREFIX = 'flowmesh-net-';
/** Of what is cut, before the table of all routes. */
const CUT_PRIORITY = 100;
const NETWORKS_MAX = 250;

/** One word on why there can be no namespaces here, or null. */
export const NO_NAMESPACES: string | null = whyNot();

/** For the name of a suite that is skipped: why. */
export function skipNote(why: string | null): string {
  return why === null ? '' : ` (skipped: ${why})`;
}

function whyNot(): string | null {
  if (process.platform !== 'linux') return 'not Linux';
  const probe = `${PREFIX}${process.pid}-probe`;
  try {
    execFileSync('ip', ['netns', 'add', probe], { stdio: 'pipe' });
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    return missing ? 'no ip command (package iproute2)' : 'namespaces may not be made (not root?)';
  }
  try {
    execFileSync('ip', ['netns', 'exec', probe, 'nft', 'list', 'ruleset'], { stdio: 'pipe' });
    return null;
  } catch {
    return 'no nft command (package nftables)';
  } finally {
    execFileSync('ip', ['netns', 'delete', probe]);
  }
}

let made = 0;

/** What hosts can be plugged into. */
interface Network {
  /** Gives a namespace an interface `eth0` and an address in a network of its own or in the one that is there. */
  plug(namespace: string): Promise<{ address: string; publicAddress: string }>;
  host(name: string): Promise<Host>;
}

export class Internet implements Network, AsyncDisposable {
  readonly #id = `${PREFIX}${process.pid}-${++made}-`;
  readonly #namespaces: string[] = [];
  readonly #router: string;
  #networks = 0;

  private constructor() {
    this.#router = `${this.#id}router`;
  }

  static async make(): Promise<Internet> {
    await removeLeftovers();
    const internet = new Internet();
    await internet.namespace('router', true);
    return internet;
  }

  /** One that everybody can reach. */
  host(name: string): Promise<Host> {
    return Host.make(this, this, name);
  }

  /** A router that masquerades, with a network of its own behind it. */
  async home(name: string): Promise<Home> {
    const namespace = await this.namespace(name, true);
    const { address } = await this.plug(namespace);
    return Home.make(this, namespace, address);
  }

  /** @returns what mends it. Packets from the one to the other are dropped on their way, as in a firewall. */
  async cut(from: Host, to: Host): Promise<() => Promise<void>> {
    const rule = ['from', from.publicAddress, 'to', to.publicAddress, 'blackhole', 'pref', String(CUT_PRIORITY)];
    await ip('-n', this.#router, 'rule', 'add', ...rule);
    return () => ip('-n', this.#router, 'rule', 'delete', ...rule);
  }

  /** Both ways. */
  async separate(one: Host, other: Host): Promise<() => Promise<void>> {
    const mends = [await this.cut(one, other), await this.cut(other, one)];
    return async () => {
      for (const mend of mends) await mend();
    };
  }

  async plug(namespace: string): Promise<{ address: string; publicAddress: string }> {
    const network = ++this.#networks;
    if (network > NETWORKS_MAX) throw new Error(`there are ${NETWORKS_MAX} networks already`);
    const [gateway, address] = [`10.80.${network}.1`, `10.80.${network}.2`];
    const port = `v${network}`;
    await ip('-n', namespace, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', port, 'netns', this.#router);
    await ip('-n', this.#router, 'address', 'add', `${gateway}/24`, 'dev', port);
    await ip('-n', this.#router, 'link', 'set', port, 'up');
    await address24(namespace, address, gateway);
    return { address, publicAddress: address };
  }

  /** A namespace that is removed at the end. */
  async namespace(name: string, forwards: boolean): Promise<string> {
    const namespace = `${this.#id}${name}`;
    await ip('netns', 'add', namespace);
    this.#namespaces.push(namespace);
    await ip('-n', namespace, 'link', 'set', 'lo', 'up');
    if (forwards) await run('ip', ['netns', 'exec', namespace, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward']);
    return namespace;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const namespace of this.#namespaces.splice(0)) await removeNamespace(namespace);
  }
}

/** What a home router does: out is let, back in is let, in is not. */
const MASQUERADE = `
table ip home {
  chain out { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }
  chain through { type filter hook forward priority filter; policy drop; ct state established,related accept; iifname "lan" accept; }
  chain in { type filter hook input priority filter; iifname "eth0" ct state new drop; }
}`;

export class Home implements Network {
  readonly #internet: Internet;
  readonly #namespace: string;
  readonly #publicAddress: string;
  #hosts = 0;

  private constructor(internet: Internet, namespace: string, publicAddress: string) {
    this.#internet = internet;
    this.#namespace = namespace;
    this.#publicAddress = publicAddress;
  }

  static async make(internet: Internet, namespace: string, publicAddress: string): Promise<Home> {
    await ip('-n', namespace, 'link', 'add', 'lan', 'type', 'bridge');
    await ip('-n', namespace, 'address', 'add', '192.168.1.1/24', 'dev', 'lan');
    await ip('-n', namespace, 'link', 'set', 'lan', 'up');
    const nft = spawn('ip', ['netns', 'exec', namespace, 'nft', '-f', '-'], { stdio: ['pipe', 'inherit', 'inherit'] });
    nft.stdin!.end(MASQUERADE);
    const [code] = await once(nft, 'exit');
    if (code !== 0) throw new Error(`nft ended with ${code}`);
    return new Home(internet, namespace, publicAddress);
  }

  /** One that only what is in the same home can reach. */
  host(name: string): Promise<Host> {
    return Host.make(this.#internet, this, name);
  }

  async plug(namespace: string): Promise<{ address: string; publicAddress: string }> {
    const number = ++this.#hosts;
    const [port, address] = [`p${number}`, `192.168.1.${number + 1}`];
    await ip('-n', namespace, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', port, 'netns', this.#namespace);
    await ip('-n', this.#namespace, 'link', 'set', port, 'master', 'lan', 'up');
    await address24(namespace, address, '192.168.1.1');
    return { address, publicAddress: this.#publicAddress };
  }
}

export class Host {
  readonly name: string;
  /** Of its interface. */
  address = '';
  /** What others see it come from: the router's behind one that masquerades. */
  publicAddress = '';
  readonly #namespace: string;

  private constructor(name: string, namespace: string) {
    this.name = name;
    this.#namespace = namespace;
  }

  static async make(internet: Internet, network: Network, name: string): Promise<Host> {
    const host = new Host(name, await internet.namespace(name, false));
    Object.assign(host, await network.plug(host.#namespace));
    return host;
  }

  /** Unplugs it and plugs it in elsewhere: its interface and address are gone, and there are others. */
  async moveTo(network: Network): Promise<void> {
    await this.unplug();
    Object.assign(this, await network.plug(this.#namespace));
  }

  /** Its cable is pulled out. */
  async unplug(): Promise<void> {
    await ip('-n', this.#namespace, 'link', 'delete', 'eth0');
  }

  /** Starts a program there. Its process is the program's own: signals and channels reach it. */
  spawn(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.#namespace, command, ...args], options);
  }

  /** Runs a program there to its end. @throws with what it wrote when it fails */
  async run(
    command: string,
    args: readonly string[],
    options: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
  ): Promise<string> {
    const { stdout } = await run('ip', ['netns', 'exec', this.#namespace, command, ...args], {
      ...options,
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
    });
    return stdout;
  }
}

async function ip(...args: string[]): Promise<void> {
  await run('ip', args);
}

async function address24(namespace: string, address: string, gateway: string): Promise<void> {
  await ip('-n', namespace, 'address', 'add', `${address}/24`, 'dev', 'eth0');
  await ip('-n', namespace, 'link', 'set', 'eth0', 'up');
  await ip('-n', namespace, 'route', 'add', 'default', 'via', gateway);
}

/** Ends what still runs in it, first. */
async function removeNamespace(namespace: string): Promise<void> {
  const { stdout } = await run('ip', ['netns', 'pids', namespace]);
  for (const pid of stdout.split('\n').filter((line) => line !== '')) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
  await ip('netns', 'delete', namespace);
}

/** Of processes that are gone. */
async function removeLeftovers(): Promise<void> {
  const { stdout } = await run('ip', ['netns', 'list']);
  const owned = new RegExp(`^(${PREFIX}(\\d+)-\\S+)`);
  for (const line of stdout.split('\n')) {
    const [, namespace, pid] = owned.exec(line) ?? [];
    if (namespace === undefined || isAlive(Number(pid))) continue;
    await removeNamespace(namespace).catch(() => {}); // Another run removes it, too.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
