/**
 * What a starting peer takes on its host: a data folder, the bootstrap port when it is free here, an HTTP port.
 * What was asked for is taken or fails; the rest is the first free one. Turns `Settings` into a `Config`.
 *
 * A chosen port is found free by listening on it, and held by a lock until the peer ends (`claimPort`), so that of
 * several peers that start at once each chooses another one.
 */
import { createServer } from 'node:net';
import { hostname } from 'node:os';
import { FlowmeshError } from '../../dag/errors.ts';
import { flagName, OPTIONS } from '../config/options.ts';
import {
  type Config,
  configSchema,
  DEFAULT_HTTP_PORT,
  DEFAULT_LISTEN,
  DEFAULT_P2P_PORT,
  isLoopback,
  refuseOpenElsewhere,
  type Settings,
  tcpOf,
} from '../config/settings.ts';
import { claimDataFolder, claimPort, type DataFolder, defaultPeerName } from '../data-folder.ts';
import { isSecured } from '../membership/store.ts';

/** Ports tried from the default one on; then any free one is taken. */
const PORTS_TRIED_MAX = 64;
const ANY_HOST = '0.0.0.0';

/** The port that was asked for has another user. */
export class PortInUseError extends FlowmeshError {
  /** @param path of the setting that asked for it, e.g. `http.port` */
  constructor(path: string, place: string, host: string, port: number, why: string) {
    const option = OPTIONS.find((each) => each.path === path)!;
    super(
      'PORT_IN_USE',
      `${place} cannot be listened on: ${why}. Choose another with ${flagName(option)} (${option.env}, or ${path} in the mesh file), or leave it out for a free one.`,
      {
        retryable: true,
        details: { host, port },
      },
    );
  }
}

export interface Place {
  config: Config;
  folder: DataFolder;
  /** Lets the folder and the ports go. */
  release(): Promise<void>;
}

/** @throws DataFolderInUseError, DataFolderUnusableError, PortInUseError; then nothing is held. */
export async function takePlace(settings: Settings, home: string): Promise<Place> {
  const folder = await claimDataFolder({ home, mesh: settings.mesh, explicit: settings.data_dir });
  const ports: { release(): void }[] = [];
  const release = async () => {
    for (const port of ports) port.release();
    await folder.release();
  };
  try {
    const listen = await listenAddresses(settings, isSecured(folder.path), home, ports);
    const http = await httpPlace(settings, home, ports);
    const name = settings.name ?? defaultPeerName(hostname(), folder.path);
    return { config: configSchema.parse({ ...settings, data_dir: folder.path, listen, http, name }), folder, release };
  } catch (error) {
    await release();
    throw error;
  }
}

async function listenAddresses(
  settings: Settings,
  secured: boolean,
  home: string,
  ports: { release(): void }[],
): Promise<string[]> {
  if (settings.listen !== undefined) {
    if (!secured) refuseOpenElsewhere(settings.listen);
    for (const address of settings.listen) {
      const tcp = tcpOf(address);
      if (tcp !== undefined && tcp.family !== 'dns') await requireFree('listen', address, tcp.host, tcp.port);
    }
    return settings.listen;
  }
  if (secured) {
    const port = await firstFreePort(DEFAULT_P2P_PORT, ANY_HOST, home, ports);
    return [`/ip4/${ANY_HOST}/tcp/${port}`];
  }
  for (const address of settings.bootstrap) {
    const tcp = tcpOf(address);
    // An address with a PeerId names a peer that exists; only loopback is certainly this host, and allowed.
    if (tcp === undefined || tcp.port === 0 || address.includes('/p2p/') || !isLoopback(tcp.host)) continue;
    if (await takePort(home, tcp.host, tcp.port, ports)) return [address];
  }
  return [DEFAULT_LISTEN];
}

async function httpPlace(settings: Settings, home: string, ports: { release(): void }[]): Promise<Settings['http']> {
  if (settings.http === null) return null;
  const { host, port } = settings.http;
  if (port !== undefined) {
    await requireFree('http.port', `${host}:${port}`, host, port);
    return settings.http;
  }
  return { ...settings.http, port: await firstFreePort(DEFAULT_HTTP_PORT, host, home, ports) };
}

/** From the first on; 0, any one, when many are taken. */
async function firstFreePort(first: number, host: string, home: string, ports: { release(): void }[]): Promise<number> {
  for (let candidate = first; candidate < first + PORTS_TRIED_MAX; candidate++) {
    if (await takePort(home, host, candidate, ports)) return candidate;
  }
  return 0;
}

async function takePort(home: string, host: string, port: number, ports: { release(): void }[]): Promise<boolean> {
  const claim = await claimPort(home, port);
  if (claim === undefined) return false;
  if ((await listenProblem(host, port)) !== null) {
    claim.release();
    return false;
  }
  ports.push(claim);
  return true;
}

async function requireFree(path: string, place: string, host: string, port: number): Promise<void> {
  const why = port === 0 ? null : await listenProblem(host, port);
  if (why !== null) throw new PortInUseError(path, place, host, port, why);
}

/** Listens for a moment. Null when that worked. */
function listenProblem(host: string, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve('another program listens there');
      else if (error.code === 'EACCES') resolve('permission denied');
      else resolve(error.message);
    });
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(null)));
  });
}
