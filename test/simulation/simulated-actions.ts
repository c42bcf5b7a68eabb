/**
 * What the workers of a simulated mesh run, and the ledger of it: every start of an action, as the action itself saw it.
 * The ledger is outside of the mesh, so that what the mesh says of a task can be checked against what happened.
 */
import { FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import { needsOf } from '../../node/executors/allowances.ts';
import type { ExecutionIO, ExecutionRequest, Executors } from '../../scheduler/ports.ts';
import type { Caller } from '../../scheduler/roles.ts';
import type { SimulatedClock, World } from './world.ts';

/** One start of an action. */
export interface LedgerEntry {
  uid: string;
  attempt: number;
  peer: string;
  at: number;
  /** How it ended, as the action saw it; null while it runs, or when its process went before it. */
  outcome: 'succeeded' | 'failed' | null;
  /** What it gave when it succeeded. */
  output?: JsonValue;
}

/** What an action of a test does, on the peer that runs it. */
export type SimulatedAction = (request: ExecutionRequest, io: ExecutionIO, peer: string) => Promise<JsonValue>;

/** Why `peer` does not let a caller run an action; null when it does. */
export type SimulatedPolicy = (peer: string, caller: Caller, action: string) => string | null;

export class SimulatedActions {
  readonly ledger: LedgerEntry[] = [];
  readonly #byTask = new Map<string, LedgerEntry[]>();
  readonly #world: World;
  readonly #own: Record<string, SimulatedAction>;
  readonly #allows: Record<string, string[]>;
  readonly #refuses: SimulatedPolicy | undefined;
  readonly #broken: (message: string) => void;
  readonly #starts = new Map<string, number>();
  /** A task is started although it has succeeded before. */
  onRepeated: (uid: string, peer: string) => void = () => {};
  /** Nothing is promised of this task: a liar keeps its feed. */
  isExcused: (uid: string) => boolean = () => false;

  /**
   * @param own actions beside `echo`, `fn:work` and `fn:flaky`
   * @param allows what a peer says that it allows of them; nothing for one that is not there
   * @param refuses what the policy of a peer says of a caller; absent: nothing against it
   */
  constructor(
    world: World,
    own: Record<string, SimulatedAction>,
    broken: (message: string) => void,
    allows: Record<string, string[]> = {},
    refuses?: SimulatedPolicy,
  ) {
    this.#refuses = refuses;
    this.#world = world;
    this.#own = own;
    this.#allows = allows;
    this.#broken = broken;
  }

  /** The starts of a task, first one first. */
  startsOf(uid: string): readonly LedgerEntry[] {
    return this.#byTask.get(uid) ?? [];
  }

  /** For one process. */
  executors(peer: string, clock: SimulatedClock): Executors {
    return {
      actions: () => ['echo', 'fn:work', 'fn:flaky', ...Object.keys(this.#own)],
      allows: () => this.#allows[peer] ?? [],
      needs: needsOf,
      refuses: (caller, action) => this.#refuses?.(peer, caller, action) ?? null,
      run: async (request, io) => {
        const entry = this.#enter(peer, request);
        try {
          const output = await this.#run(peer, request, io);
          entry.outcome = 'succeeded';
          entry.output = output;
          return output;
        } catch (error) {
          entry.outcome = 'failed';
          throw error;
        } finally {
          await new Promise<void>((resolve) => clock.whenAwake(resolve));
        }
      },
    };
  }

  #enter(peer: string, { uid, attempt }: ExecutionRequest): LedgerEntry {
    this.#world.note(`run ${uid} attempt ${attempt} at ${peer}`);
    const earlier = this.#byTask.get(uid) ?? [];
    if (earlier.some(({ outcome }) => outcome === 'succeeded')) this.onRepeated(uid, peer);
    const entry: LedgerEntry = { uid, attempt, peer, at: this.#world.now, outcome: null };
    this.#byTask.set(uid, [...earlier, entry]);
    this.ledger.push(entry);
    return entry;
  }

  /** `echo` answers at once; `fn:work` takes `ms`; `fn:flaky` fails the first `failures` starts of a piece of work. */
  async #run(peer: string, request: ExecutionRequest, io: ExecutionIO): Promise<JsonValue> {
    const { uid, payload, action } = request;
    const starts = this.#start(payload['piece'] === undefined ? uid : `piece ${payload['piece']}`);
    if (payload['once'] === true && starts > 1 && !this.isExcused(uid)) {
      this.#broken(`P4: ${uid} is at_most_once and was started ${starts} times`);
    }
    const own = this.#own[action];
    if (own !== undefined) return await own(request, io, peer);
    const ms = Number(payload['ms'] ?? 0);
    await new Promise<void>((resolve, reject) => {
      const cancel = this.#world.at(ms, resolve);
      io.signal.addEventListener('abort', () => {
        cancel();
        reject(new FlowmeshError('ABORTED', 'ended before its time', { retryable: true }));
      });
    });
    if (starts <= Number(payload['failures'] ?? 0)) {
      throw new FlowmeshError('FLAKY', 'fails at first', { retryable: true });
    }
    return payload;
  }

  #start(key: string): number {
    const starts = (this.#starts.get(key) ?? 0) + 1;
    this.#starts.set(key, starts);
    return starts;
  }
}
