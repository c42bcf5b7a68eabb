/**
 * Makes the parts of a scheduler, from the floor up, and hands each what it uses. What a part tells the parts
 * above it goes through a signal; the listeners are connected by `scheduler.ts` and at the end of this file.
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
import { OwnedFeed, type OwnedFeedHooks } from './feed/owned-feed.ts';
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
import type { Clock, Crashes, Evaluator, Executors, LeaseWatch, Log, Network, Random, Signer, Store } from './ports.ts';
import type { FeedRecord } from './records.ts';
import { FollowedFeeds } from './replication/follower.ts';
import type { MembershipOf } from './roles.ts';
import { SelfState } from './self-state.ts';
import { Signal } from './signal.ts';
import { Signatures } from './signatures.ts';
import { LocalFeed } from './storage/local-feed.ts';
import { watchedStore } from './storage/watched-store.ts';
import { WorkerPool } from './worker/worker-pool.ts';

/** The world of a scheduler: its ports, and who is told of it. */
export interface AssembledFrom {
  clock: Clock;
  random: Random;
  network: Network;
  store: Store;
  executors: Executors;
  evaluator: Evaluator;
  log: Log;
  signer: Signer;
  /** Told at named points around every durable step; tests stop the process there. */
  probe: Probe;
  /** Told which leases are worked on here. */
  watch: LeaseWatch;
  /** The leases that this peer worked on when it crashed before. */
  crashes: Crashes;
  /** Told the state of the feed for new work whenever it changes, for readers on other event loops. */
  onMainFeed: ((state: MainFeedState) => void) | undefined;
}

/** All options, with their defaults in place. */
export interface ResolvedOptions {
  name: string;
  version: string;
  copies: number;
  history_days: number;
  history_max: number;
  gone: readonly string[];
  caller_weights: ReadonlyMap<string, number>;
  takeover_ms: number;
  beat_interval_ms: number;
  offer_interval_ms: number;
  auto_connect: boolean;
  target_connections: number;
}

/** What parts tell the parts above them. */
class Signals {
  /** The disk refused a write. */
  readonly failed = new Signal<[error: unknown]>();
  /** A worker here has a slot that it had not. */
  readonly slotFree = new Signal();
  /** A peer is said to own a feed, in a line that may win against the one known here (P2). */
  readonly overtaken = new Signal<[peer: string, feedId: string]>();
  /** A record here and one of another peer have one id. */
  readonly rival = new Signal<[uid: string, rival: Held]>();
  /** A record was made with an id that may not have been free. */
  readonly doubted = new Signal<[alias: Alias]>();
  /** Once per event-loop turn that had turns, before they are written. */
  readonly beforeFlush = new Signal();
  /** More of a feed may be shown than before (P1). */
  readonly released = new Signal();
}

export type Parts = ReturnType<typeof assemble>;

export function assemble(world: AssembledFrom, options: ResolvedOptions) {
  const { network, store, watch } = world;
  const signals = new Signals();
  const onFailure = signals.failed.tell;
  const lifecycle = new Lifecycle();
  /** What any part may use. */
  const membershipOf: MembershipOf = (peer) => network.membership(peer);
  const signatures = new Signatures({ signer: world.signer, self: network.self });
  const base = { ...world, self: network.self, membershipOf, signatures, reader: store.reader, lifecycle, options };
  const served = new ServedCalls();

  // storage/, worker/, membership/
  const local = new LocalFeed({ ...base, onFailure });
  const watched = watchedStore(store, onFailure);
  const pool = new WorkerPool({ ...base, onSlotFree: signals.slotFree.tell });
  const peers = new PeerTable(base.self, membershipOf);
  const dial = new AutoDial({ ...base, peers });

  // The table of feeds and what is looked up in it. It is filled by ownership/ alone.
  const feeds = new FeedTable(base.reader);
  const followed = new FollowedFeeds(
    { ...base, store: watched },
    {
      owned: (feedId) => feeds.get(feedId)?.feed,
      onOvertaken: signals.overtaken.tell,
      isOwnedBy: (feedId, peer) => peers.isOwnedBy(feedId, peer),
      // Of a peer that is not connected no certificate is known: the request will say whether it is there.
      mayPullFrom: (peer) => peers.find(peer)?.connected !== true || peers.maySend('pull', peer),
      remember: (work) => local.turn(work),
    },
  );
  const records = new StoredRecords({ ...base, feeds, followed, pool });
  const locator = new Locator({ ...base, peers, records });
  const remoteCalls = new RemoteCalls({ ...base, locator });
  const idClaims = new IdClaims({
    ...{ ...base, peers, locator, records },
    wantOwner: (feedId) => followed.want(feedId),
    onRival: signals.rival.tell,
    onDoubt: signals.doubted.tell,
  });
  locator.listen(idClaims);
  const dependencies = new Dependencies({ ...base, locator, dependents: feeds });

  // What this peer says of itself, and the work that it offers.
  const queueState = new QueueState({ ...base, local, feeds });
  const selfState = new SelfState({ ...base, peers, pool, feeds, queueState });
  const offers = new Offers({ ...base, peers, pool, dial, self: selfState });

  // ownership/ and partition/
  const oneAtATime = new OneAtATime(base);
  const inquiry = new Inquiry({ ...base, peers, feeds, followed, dial, oneAtATime });
  const hooks: OwnedFeedHooks = {
    isPaused: () => queueState.paused || !lifecycle.ready || lifecycle.stopping,
    onStarved: () => offers.offerSoon(),
    beforeFlush: signals.beforeFlush.tell,
    onReleased: signals.released.tell,
    onFailure,
    mayHaveOwned: (feed, peer) => inquiry.mayHaveOwned(feed, peer),
    onStale: signals.overtaken.tell,
  };
  const makeOwned = (feed: FeedRecord): OwnedFeed => {
    const made = new OwnedFeed({ ...base, peers, pool, dependencies }, feed, options, hooks);
    feeds.add(made);
    return made;
  };
  const owning = { ...base, store: watched, peers, feeds, inquiry, makeOwned };
  const main = new MainFeed({ ...owning, local, onState: world.onMainFeed });
  const conflicts = new IdConflicts({ ...base, feeds, inquiry, records, locator });
  const reconciliation = new Reconciliation({
    ...{ ...base, records },
    onAdopted: (root, rival) => conflicts.adopted(root, rival),
  });
  const ownership = new Ownership({
    ...{ ...owning, pool, followed, dependencies, records, main, oneAtATime, dial, conflicts, reconciliation },
  });
  const antiEntropy = new AntiEntropy({ ...base, peers, conflicts });

  // What goes on with every beat.
  const deferredCalls = new DeferredCalls({ ...base, local, records, owners: ownership, served });
  const retention = new Retention({ ...base, followed, feeds, local });
  const leaseBeats = new LeaseBeats({ ...base, feeds, pool });
  const heartbeat = new Heartbeat({ ...base, peers, pool, self: selfState }, [
    ...[antiEntropy, leaseBeats, ownership, deferredCalls, main, retention, offers, dial],
  ]);

  // client/
  const submit = new Submit({
    ...{ ...base, feeds, main, locator, idClaims, dependencies, peers, records },
    copies: options.copies,
  });
  const queueClearing = new ClearQueue({ ...base, feeds });
  const change = new Change({ ...base, feeds });
  const onWorkersChanged = () => {
    selfState.refresh();
    selfState.announce();
    feeds.dispatchSoon();
  };
  const registry = new WorkerRegistry({ ...base, local, pool, locator, onChange: onWorkersChanged });

  signals.slotFree.listen(() => {
    peers.find(base.self)?.busy.clear();
    feeds.dispatchSoon();
    offers.claimSoon();
  });
  signals.overtaken.listen((peer, feedId) => ownership.look(peer, feedId));
  signals.rival.listen((uid, rival) => conflicts.onRival(uid, rival));
  signals.doubted.listen((alias) => conflicts.doubted(alias));
  signals.released.listen(() => main.report());

  return {
    ...{
      self: base.self,
      signatures,
      membershipOf,
      clock: world.clock,
      options,
      signals,
      lifecycle,
      served,
      local,
      watch,
      pool,
      peers,
      feeds,
    },
    ...{ followed, records, locator, idClaims, remoteCalls, dependencies, queueState, selfState, offers, inquiry },
    ...{ main, reconciliation, ownership, antiEntropy, deferredCalls, heartbeat, submit, queueClearing, change },
    ...{ registry, onWorkersChanged },
  };
}
