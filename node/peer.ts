/**
 * One peer as a process runs it: the mesh side on its own loop or on this one, the router, and MCP over HTTP.
 *
 *   const peer = await startPeer(config, log); // its data folder is held by the caller (node/data-folder.ts)
 *   peer.http_url; // http://127.0.0.1:7601
 *   await peer.stop();
 *
 * MCP over stdio is the caller's: `serveStdio({ router: peer.router, … })`.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Log, Reader } from '../scheduler/ports.ts';
import type { AuditTrail } from './audit/trail.ts';
import type { Authenticator } from './auth/authenticator.ts';
import { createClock } from './clock.ts';
import type { Config } from './config/settings.ts';
import type { AdminRoutes } from './mcp/peer-routes.ts';
import { packageVersion } from './package-file.ts';
import { type Closing, closeAll } from './runtimes/closing.ts';
import { noteCrash } from './runtimes/crash-file.ts';
import { linkInline } from './runtimes/inline-mesh.ts';
import { CLOSE_DEADLINE_MS, MESH_STOP_DEADLINE_MS } from './runtimes/limits.ts';
import type { Mesh, MeshSeams } from './runtimes/mesh.ts';
import type { Drained, MeshLink } from './runtimes/mesh-link.ts';
import { MeshSupervisor } from './runtimes/mesh-supervisor.ts';
import { LoopRouter, type ToolRouter } from './runtimes/router.ts';
import { WorkedOnLeases } from './runtimes/worked-on.ts';
import { openSqliteReader } from './store/reader.ts';
import type { Throttle } from './throttle/throttle.ts';

const ADMIN_KEY_BYTES = 24;

/** What tests and benchmarks replace. */
export interface PeerSeams extends MeshSeams {
  /** The module that the mesh thread runs (`runtime: dedicated`). Default: mesh-thread. */
  mesh_entry?: URL;
}

export interface RunningPeer {
  readonly config: Config;
  readonly peer_id: string;
  /** Dialable, at the start. */
  readonly addresses: string[];
  /** Without a path; MCP is at `${http_url}/mcp`. Null when the peer serves no HTTP. */
  readonly http_url: string | null;
  /** Lets its user ask about its mesh over HTTP. Changes with every start. */
  readonly admin_key: string;
  readonly router: ToolRouter;
  /** The mesh side when it is on this loop (`runtime: inline`). */
  readonly mesh: Mesh | null;
  /** Resolves with the reason when the peer cannot go on; it is still to be stopped. */
  readonly failed: Promise<Error>;
  /** Resolves when somebody asks over HTTP that it drains; it is still to be drained, and stopped. */
  readonly drainAsked: Promise<{ waitMs: number | undefined }>;
  /** Takes no more tasks, and waits until those that run have ended, at most `waitMs`. */
  drain(waitMs: number): Promise<Drained>;
  /**
   * Ends within MESH_STOP_DEADLINE_MS and a little. Calling it again waits for the same end.
   *
   * @throws CLOSE_FAILED naming what did not close cleanly; everything else is closed
   */
  stop(): Promise<void>;
}

/**
 * Resolves when the peer is ready for calls.
 *
 * @param seams the functions among them are taken with the inline runtime only, since none can cross to another thread
 * @throws what kept a part from starting; everything that was started is closed again
 */
export async function startPeer(config: Config, log: Log, seams: PeerSeams = {}): Promise<RunningPeer> {
  const opened: Closing[] = [];
  try {
    // Read while the mesh side starts; neither loop loads what only the other one needs.
    const listenerModule = config.http === null ? null : import('./mcp/listener.ts');
    const adminKey = randomBytes(ADMIN_KEY_BYTES).toString('base64url');
    const authenticator = config.http === null ? null : await openAuthenticator(config, adminKey, log);
    const asking: PeerSeams = authenticator === null ? {} : { onKeys: (keys) => authenticator.keys.set(keys) };
    const { link, reader, mesh } = await openMesh(config, log, { ...asking, ...seams }, opened);
    const trail = await openTrail(config, log, opened);
    const throttle = await openThrottleOf(config, reader, log, opened);
    const router = new LoopRouter({ link, reader, clock: createClock(), config, log, trail, throttle });
    const admin: AdminRoutes = {
      key: adminKey,
      async meshRequest(request, input) {
        const output = await link.meshRequest(request, input);
        return request === 'keys' && authenticator !== null ? authenticator.keys.withUse(output) : output;
      },
    };
    let httpUrl: string | null = null;
    const drainAsked = Promise.withResolvers<{ waitMs: number | undefined }>();
    if (config.http !== null && listenerModule !== null) {
      const { startListener } = await listenerModule;
      const info = { peer_id: link.info.peer_id, name: config.name, version: packageVersion() };
      const onDrain = (waitMs: number | undefined) => drainAsked.resolve({ waitMs });
      const asked = authenticator === null ? {} : (await import('./mcp/identify.ts')).askWhoCalls(authenticator);
      const listener = await startListener({
        ...config.http,
        router,
        info,
        log,
        onDrain,
        admin,
        trail,
        throttle,
        ...asked,
      });
      opened.push({ part: 'listener', close: () => listener.close() });
      httpUrl = listener.url;
    }
    // Closed first: who waits for an answer gets one before the connections are closed.
    opened.push({ part: 'router', close: () => router.close() });
    let stopped: Promise<void> | undefined;
    return {
      config,
      peer_id: link.info.peer_id,
      addresses: link.info.addresses,
      http_url: httpUrl,
      admin_key: adminKey,
      router,
      mesh,
      failed: link.failed,
      drainAsked: drainAsked.promise,
      drain(waitMs) {
        router.draining = true;
        return link.drain(waitMs);
      },
      stop() {
        stopped ??= closeAll(opened.toReversed(), log);
        return stopped;
      },
    };
  } catch (error) {
    // The reason of the failed start is what its caller has to know; what does not close is in the log.
    await closeAll(opened.toReversed(), log).catch(() => {});
    throw error;
  }
}

/** Undefined where none is kept. It is closed when nothing can be recorded any more. */
async function openTrail(
  { audit, auth, data_dir }: Config,
  log: Log,
  opened: Closing[],
): Promise<AuditTrail | undefined> {
  if (!(audit ?? auth !== null)) return undefined;
  const { AuditTrail: Trail } = await import('./audit/trail.ts');
  const trail = await Trail.open(join(data_dir, 'audit'), { clock: createClock(), log });
  opened.push({ part: 'audit trail', close: () => trail.close() });
  return trail;
}

/** Undefined where nobody is asked who calls, so that nobody can be told from others. */
async function openThrottleOf(
  { auth, limits, mesh }: Config,
  reader: Reader,
  log: Log,
  opened: Closing[],
): Promise<Throttle | undefined> {
  if (auth === null) return undefined;
  const { openThrottle } = await import('./throttle/throttle.ts');
  const throttle = await openThrottle({ settings: limits, mesh, reader, clock: createClock(), log });
  opened.push({ part: 'throttle', close: () => throttle.close() });
  return throttle;
}

/** Null where nobody is asked who calls. */
async function openAuthenticator({ auth }: Config, adminKey: string, log: Log): Promise<Authenticator | null> {
  if (auth === null) return null;
  const { Authenticator: Opened } = await import('./auth/authenticator.ts');
  return new Opened({ settings: auth, adminKey, log });
}

async function openMesh(
  config: Config,
  log: Log,
  seams: PeerSeams,
  opened: Closing[],
): Promise<{ link: MeshLink; reader: Reader; mesh: Mesh | null }> {
  const stopsMesh = (link: MeshLink): Closing => {
    return { part: 'mesh', close: () => link.stop(), deadlineMs: MESH_STOP_DEADLINE_MS + CLOSE_DEADLINE_MS };
  };
  if (config.runtime === 'inline') {
    const { startMesh } = await import('./runtimes/mesh.ts');
    const workedOn = new WorkedOnLeases();
    const mesh = await startMesh(config, log, { watch: workedOn, ...seams });
    // Nobody else is there to note it: this ends the process.
    const onCrash = () => noteCrash(config.data_dir, workedOn.blamed(1), log);
    process.on('uncaughtExceptionMonitor', onCrash);
    opened.push({ part: 'crash watch', close: () => process.off('uncaughtExceptionMonitor', onCrash) });
    const link = linkInline(mesh);
    opened.push(stopsMesh(link));
    return { link, reader: mesh.store.reader, mesh };
  }
  const link = await MeshSupervisor.start({ config, log, entry: seams.mesh_entry, onKeys: seams.onKeys });
  opened.push(stopsMesh(link));
  const reader = openSqliteReader(link.info.store_path);
  opened.push({ part: 'reader', close: () => reader.close() });
  return { link, reader, mesh: null };
}
