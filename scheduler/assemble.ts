/**
 * Makes the parts of a scheduler, from the floor up, and hands each what it uses. What a part has to say upwards goes
 * through a signal; those who listen are connected by `scheduler.ts` and at the end of this file.
 */
import type { MainFeedState } from './api.ts';
import { Change } from './client/change.ts';
import { ClearQueue } from './client/clear-queue.ts';
import { DeferredCalls } from './client/deferred-calls.ts';
import { QueueState } from './client/queue-state.ts';
import { ServedCalls } from './client/served-calls.ts';
import { Submit } from './client/submit.ts';
import { WorkerRegistry } from './client/worker-registry.ts';
import type { Probe } from './crash-points.ts';
import { Dependencies } from './feed/dependencies.ts';
import { FeedTable } from './feed/feed-table.ts';
import { LeaseBeats } from './feed/lease-beats.ts';
import { OwnedFeed } from './feed/owned-feed.ts';
import { Retention } from './feed/retention.ts';
import { Lifecycle } from './lifecycle.ts';
import { IdClaims } from './lookup/id-claims.ts';
import { Locator } from './lookup/locator.ts';
import { RemoteCalls } from './lookup/remote-calls.ts';
import { AutoDial } from './membership/auto-dial.ts';
import { Heartbeat } from './membership/heartbeat.ts';
import { PeerTable } from './membership/peer-table.ts';
import type { Alias, Held } from './messages.ts';
import { Inquiry } from './ownership/inquiry.ts';
import { MainFeed } from './ownership/main-feed.ts';
import { OneAtATime } from './ownership/one-at-a-time.ts';
import { Ownership } from './ownership/ownership.ts';
import { StoredRecords } from './ownership/stored-records.ts';
import { AntiEntropy } from './partition/anti-entropy.ts';
import { IdConflicts } from './partition/id-conflicts.ts';
import { Reconciliation } from './partition/reconcile.ts';
import { Offers } from './placement/offers.ts';
import type { Clock, Crashes, Evaluator, Executors, LeaseWatch, Log, Network, Random, Store } from './ports.ts';
import type { FeedRecord } from './records.ts';
import { FollowedFeeds } from './replication/follower.ts';
import { SelfState } from './self-state.ts';
import { Signal } from './signal.ts';
import { LocalFeed } from './storage/local-feed.ts';
import { watchedStore } from './storage/watched-store.ts';
import { WorkerPool } from './worker/worker-pool.ts';

export interface AssembledFrom {
  clock: Clock;
  random: Random;
  network: Network;
  store: Store;
  executors: Executors;
  evaluator: Evaluator;
  log: Log;
  probe: Probe;
  watch: LeaseWatch;
  crashes: Crashes;
  onMainFeed: ((state: MainFeedState) => void) | undefined;
}

/** Everything that can be set, with its default in place. */
export interface ResolvedOptions {
  name: string;
  version: string;
  copies: number;
  history_days: number;
  history_max: number;
  gone: readonly string[];
  takeover_ms: number;
  beat_interval_ms: number;
  offer_interval_ms: number;
  auto_connect: boolean;
  target_connections: number;
}

/** What parts say to those above them. */
class Signals {
  /** The disk refused a write. */
  readonly failed = new Signal<[error: unknown]>();
  /** A worker here has a slot that it had not. */
  readonly slotFree = new Signal();
  /** A peer is said to have a line of a feed that comes before the one known here. */
  readonly overtaken = new Signal<[peer: string, feedId: string]>();
  /** A record here and another one have one id. */
  readonly rival = new Signal<[uid: string, rival: Held]>();
  /** A record was made with an id that may not have been free. */
  readonly doubted = new Signal<[alias: Alias]>();
  /** Once per event-loop turn that had turns, before they are written. */
  readonly beforeFlush = new Signal();
  /** More of a feed may be shown than before. */
  readonly released = new Signal();
}

export type Parts = ReturnType<typeof assemble>;

export function assemble(world: AssembledFrom, options: ResolvedOptions) {
  const { clock, random, network, store, evaluator, log, probe, watch, onMainFeed } = world;
  const { self } = network;
  const { reader } = store;
  const signals = new Signals();
  const onFailure = signals.failed.tell;
  const lifecycle = new Lifecycle();
  const served = new ServedCalls();

  const watched = watchedStore(store, onFailure);
  const local = new LocalFeed({ clock, store, log, probe, lifecycle, onFailure });
  const pool = new WorkerPool({ ...world, name: options.name, onSlotFree: signals.slotFree.tell });

  const peers = new PeerTable(self);
  const dial = new AutoDial({ clock, network, peers, log, options });

  const feeds = new FeedTable(reader);
  const followed = new FollowedFeeds(
    { clock, network, store: watched, probe },
    {
      owned: (feedId) => feeds.get(feedId)?.feed,
      onOvertaken: signals.overtaken.tell,
      isOwnedBy: (feedId, peer) => peers.isOwnedBy(feedId, peer),
      remember: (work) => local.turn(work),
    },
  );
  const records = new StoredRecords({ self, reader, feeds, followed, pool });
  const locator = new Locator({ clock, network, directory: peers, log, records, options });
  const remoteCalls = new RemoteCalls({ clock, network, locator, options });
  const idClaims = new IdClaims({
    ...{ clock, network, directory: peers, log, locator, records, options },
    wantOwner: (feedId) => followed.want(feedId),
    onRival: signals.rival.tell,
    onDoubt: signals.doubted.tell,
  });
  locator.listen(idClaims);
  const dependencies = new Dependencies({ clock, locator, log, dependents: feeds });

  const queueState = new QueueState({ clock, reader, local, feeds });
  const selfState = new SelfState({ clock, network, peers, pool, feeds, queueState, lifecycle, options });
  const offers = new Offers({ clock, network, peers, pool, dial, log, self: selfState, options });

  const oneAtATime = new OneAtATime({ log, lifecycle });
  const inquiry = new Inquiry({ clock, network, peers, feeds, followed, dial, oneAtATime, log, options });
  const makeOwned = (feed: FeedRecord): OwnedFeed => {
    const made = new OwnedFeed(
      { clock, random, network, store, evaluator, log, probe, directory: peers, pool, dependencies },
      feed,
      options,
      {
        isPaused: () => queueState.paused || !lifecycle.ready || lifecycle.stopping,
        onStarved: () => offers.offerSoon(),
        beforeFlush: signals.beforeFlush.tell,
        onReleased: signals.released.tell,
        onFailure,
        onStale: signals.overtaken.tell,
      },
    );
    feeds.add(made);
    return made;
  };
  const main = new MainFeed({
    ...{ self, clock, random, store: watched, local, feeds, peers, inquiry, lifecycle, makeOwned },
    onState: onMainFeed,
  });
  const lookUp = (alias: Alias) => records.find(alias);
  const conflicts = new IdConflicts({ self, clock, reader, log, feeds, inquiry, lookUp, locator });
  const reconciliation = new Reconciliation({
    ...{ clock, network, reader, log, lookUp },
    onAdopted: (root, rival) => conflicts.adopted(root, rival),
  });
  const ownership = new Ownership({
    ...{ clock, random, network, store: watched, log, probe, peers, pool, feeds, followed, dependencies, records },
    ...{ inquiry, main, oneAtATime, dial, lifecycle, conflicts, reconciliation, makeOwned, options },
  });
  const antiEntropy = new AntiEntropy({ clock, peers, conflicts, lifecycle, log, options });

  const deferredCalls = new DeferredCalls({ self, clock, reader, local, records, owners: ownership, served, log });
  const retention = new Retention({ clock, store, log, followed, feeds, local, options });
  const leaseBeats = new LeaseBeats({ self, feeds, pool, reader, log, lifecycle, options });
  const heartbeat = new Heartbeat({ clock, network, peers, pool, log, lifecycle, self: selfState, options }, [
    ...[antiEntropy, leaseBeats, ownership, deferredCalls, main, retention, offers, dial],
  ]);

  const submit = new Submit({
    ...{
      clock,
      random,
      evaluator,
      reader,
      log,
      feeds,
      main,
      locator,
      idClaims,
      dependencies,
      peers,
      records,
      lifecycle,
    },
    copies: options.copies,
  });
  const queueClearing = new ClearQueue({ clock, reader, feeds, lifecycle });
  const change = new Change({ reader, feeds, lifecycle });
  const registry = new WorkerRegistry({
    ...{ clock, reader, local, pool, locator },
    onChange: () => {
      selfState.refresh();
      selfState.announce();
      feeds.dispatchSoon();
    },
  });

  signals.slotFree.listen(() => {
    peers.find(self)?.busy.clear();
    feeds.dispatchSoon();
    offers.claimSoon();
  });
  signals.overtaken.listen((peer, feedId) => ownership.look(peer, feedId));
  signals.rival.listen((uid, rival) => conflicts.onRival(uid, rival));
  signals.doubted.listen((alias) => conflicts.doubted(alias));
  signals.released.listen(() => main.report());

  return {
    ...{
      signals,
      lifecycle,
      served,
      local,
      pool,
      peers,
      feeds,
      followed,
      records,
      locator,
      idClaims,
      remoteCalls,
      dependencies,
      queueState,
    },
    ...{ selfState, offers, inquiry, main, reconciliation, ownership, antiEntropy, deferredCalls, heartbeat },
    ...{ submit, queueClearing, change, registry, watch, self, clock, options },
  };
}
