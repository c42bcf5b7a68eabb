/**
 * The mesh side of one peer: store, executors, expressions, libp2p and the scheduler, put together on the loop that
 * calls `startMesh`. Several can run in one process, each on a folder of its own.
 *
 *   const mesh = await startMesh(config, log);
 *   await mesh.call('task_submit', { task_type: 'echo' }, { signal, deadlineMs: 5_000 });
 *   await mesh.stop();
 *
 * 1. The store is open and the scheduler has taken up what it holds before the first peer is greeted.
 * 2. What was opened is closed in the opposite order, all of it, also when the start fails half-way.
 */
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { JsonObject } from '../../dag/errors.ts';
import type { Clock, LeaseWatch, Log, Store } from '../../scheduler/ports.ts';
import { Scheduler } from '../../scheduler/scheduler.ts';
import { createClock } from '../clock.ts';
import { type Config, refuseOpenElsewhere } from '../config/settings.ts';
import { createExecutors } from '../executors/executors.ts';
import { createEvaluator } from '../expressions/evaluator.ts';
import { type KnownKey, watchKeys } from '../membership/api-key.ts';
import { Membership } from '../membership/membership.ts';
import type { MeshRequest } from '../membership/requests.ts';
import { createSigner, OPEN_SIGNER } from '../membership/signer.ts';
import { loadIdentity } from '../p2p/identity.ts';
import { createP2PNetwork, type P2PNetwork } from '../p2p/network.ts';
import type { Relaying } from '../p2p/relay.ts';
import { packageVersion } from '../package-file.ts';
import { limitsKeptHere } from '../processes/confinement.ts';
import { createRandom } from '../random.ts';
import { openSqliteStore } from '../store/store.ts';
import { type Closing, closeAll } from './closing.ts';
import { CRASH_AT_VARIABLE, crashAt } from './crash-at.ts';
import { CrashFile } from './crash-file.ts';
import { mainFeedWriter, newMainFeedMemory } from './main-feed.ts';
import { MeshCalls } from './mesh-calls.ts';
import type { CallOptions, Drained, MeshInfo, MeshState } from './mesh-link.ts';

const STORE_FILE = 'flowmesh.db';

/** What tests replace to build a topology or to stop a peer as a crash would. */
export interface MeshSeams {
  /** Peer ids that this peer neither dials nor accepts. Asked at every connection. */
  denied?: () => Set<string>;
  clock?: Clock;
  /** Told which leases are worked on, for whoever notes a crash. */
  watch?: LeaseWatch;
  /** Told the keys of callers, before the mesh side has started and whenever they change; in an open mesh never. */
  onKeys?: (keys: KnownKey[]) => void;
}

export interface Mesh {
  readonly info: MeshInfo;
  readonly scheduler: Scheduler;
  readonly network: P2PNetwork;
  readonly store: Store;
  call(tool: string, input: unknown, options: CallOptions): Promise<JsonObject>;
  state(): MeshState;
  /** Takes no more tasks, and waits until those that run have ended, at most `waitMs`. */
  drain(waitMs: number): Promise<Drained>;
  meshRequest(request: MeshRequest, input: unknown): Promise<JsonObject>;
  /**
   * Hands over and closes everything. Calling it again waits for the same end.
   *
   * @param options.handOver false leaves like a crash: peers are told nothing, running work is dropped
   * @throws CLOSE_FAILED after everything was tried
   */
  stop(options?: { handOver: boolean }): Promise<void>;
}

/** @throws what a part says that cannot start: the data folder is damaged, the address is in use, … */
export async function startMesh(config: Config, log: Log, seams: MeshSeams = {}): Promise<Mesh> {
  const opened: Closing[] = [];
  const closeOpened = () => closeAll(opened.toReversed(), log);
  try {
    const clock = seams.clock ?? createClock();
    const probe = crashAt(process.env[CRASH_AT_VARIABLE]);
    const storePath = join(config.data_dir, STORE_FILE);
    const store = await openSqliteStore({ path: storePath, inline: config.runtime === 'inline', log });
    opened.push({ part: 'store', close: () => store.close() });
    const executors = await createExecutors(config, log);
    opened.push({ part: 'executors', close: () => executors.close() });
    const evaluator = createEvaluator({});
    opened.push({ part: 'expressions', close: () => evaluator.close() });
    const identity = await loadIdentity(config.data_dir, log);
    const membership = Membership.open({ dataDir: config.data_dir, identity, now: Date.now, log });
    if (membership === null) refuseOpenElsewhere(config.listen);
    else opened.push({ part: 'membership', close: async () => membership.close() });
    if (membership !== null && seams.onKeys !== undefined) {
      const stopWatching = watchKeys(membership, seams.onKeys);
      opened.push({ part: 'keys', close: async () => stopWatching() });
    }
    const network = await createP2PNetwork({
      ...config,
      limits: undefined, // Those of the settings are of callers.
      bootstrap: [...new Set([...config.bootstrap, ...(membership?.facts.sponsors ?? [])])],
      mdns: config.mdns ?? membership !== null,
      relay: relayingOf(membership),
      ...{ version: packageVersion(), membership, log, denied: seams.denied },
    });
    opened.push({ part: 'network', close: () => network.stop() });
    const mainFeed = newMainFeedMemory();
    const onMainFeed = mainFeedWriter(mainFeed);
    const scheduler = new Scheduler(
      {
        ...{ clock, random: createRandom(), network, store, executors, evaluator, log, probe, onMainFeed },
        signer: membership === null ? OPEN_SIGNER : createSigner(membership.key),
        watch: seams.watch,
        crashes: new CrashFile(config.data_dir, log),
      },
      { ...config, version: packageVersion() },
    );
    const calls = new MeshCalls({ scheduler: scheduler.api, peers: network, reader: store.reader, clock, log });
    scheduler.serveCalls((call) => calls.runInbound(call));
    network.attach(scheduler.inbound, (peer) => scheduler.describe(peer));
    const schedulerPart: Closing = { part: 'scheduler', close: () => scheduler.stop() };
    opened.push(schedulerPart);
    await scheduler.start();
    await network.start();

    let stopped: Promise<void> | undefined;
    return {
      info: { peer_id: network.self, addresses: network.addresses(), store_path: storePath, main_feed: mainFeed },
      scheduler,
      network,
      store,
      call: (tool, input, options) => calls.run(tool, input, options),
      state: () => ({
        connected_peers: network.connected().length,
        addresses: network.addresses(),
        running_calls: calls.running,
        inbound: calls.inboundFigures(),
        utilization: performance.eventLoopUtilization().utilization,
      }),
      drain: (waitMs) => scheduler.drain(waitMs),
      meshRequest: (request, input) => network.meshRequest(request, input, [limitsNote()]),
      stop(options = { handOver: true }) {
        const parts = options.handOver ? opened : opened.filter((each) => each !== schedulerPart);
        stopped ??= closeAll(parts.toReversed(), log);
        return stopped;
      },
    };
  } catch (error) {
    // The reason of the failed start is what its caller has to know; what does not close is in the log.
    await closeOpened().catch(() => {});
    throw error;
  }
}

/** Members relay for each other as far as their certificates say. */
function relayingOf(membership: Membership | null): Relaying | undefined {
  if (membership === null) return undefined;
  return membership.ownCertificate().said.rights.relay ? 'serves' : 'uses';
}

/** What keeps the limits of steps on this machine, for people. */
function limitsNote(): string {
  const by = Object.entries(limitsKeptHere()).map(([limit, keeper]) => `${limit} by ${keeper}`);
  return `Limits of steps (policy) are kept here: ${by.join(', ')}.`;
}
