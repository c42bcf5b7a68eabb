/**
 * The policy of a peer: who may run what on it. The first rule that names the caller decides; a caller that no rule
 * names runs nothing. Without a policy everybody may run what the other settings allow, and with one, nothing beyond
 * that.
 *
 *   policy.grantFor(caller).refuses('shell', { command: ['git', 'pull'] });  // null, or why not
 */
import type { JsonObject } from '../../dag/errors.ts';
import { covers, splitNeed } from '../../scheduler/capabilities.ts';
import type { Caller } from '../../scheduler/roles.ts';
import type { AttemptLimits } from '../processes/confinement.ts';
import type { HttpPolicy } from './address-policy.ts';
import { allowancesOf, needsOf, PRIVATE } from './allowances.ts';
import type { ExecutorConfig, PolicyRule } from './executor-config.ts';
import type { ShellPolicy } from './shell-command.ts';

const EVERYTHING = '*';

type Allowing = Pick<ExecutorConfig, 'shell' | 'http_action'>;

/** What one kind of caller may run here. */
export class Grant {
  /** Null: without a policy. */
  readonly #rule: readonly string[] | null;
  readonly allows: readonly string[];
  readonly shell: ShellPolicy;
  readonly http: HttpPolicy;
  readonly limits: AttemptLimits;
  /** Where they are in the settings. */
  readonly limitsPlace: string;

  constructor(settings: Allowing, rule: readonly string[] | null, limits: AttemptLimits = {}, limitsPlace = '') {
    this.limits = limits;
    this.limitsPlace = limitsPlace;
    this.#rule = rule?.map(lowerHost) ?? null;
    const base = allowancesOf(settings);
    this.allows = this.#rule === null ? base : shared(base, this.#rule);
    const hosts = this.#named('http');
    this.shell = { ...settings.shell, allow: this.#named('shell') };
    this.http = { private: this.allows.includes(PRIVATE), allow: hosts.includes(EVERYTHING) ? [] : hosts };
  }

  /** What the policy alone forbids of an action, in the words of `allowances.ts`; empty: nothing. */
  forbids(action: string, payload?: JsonObject): string[] {
    const rule = this.#rule;
    if (rule === null || rule.includes(EVERYTHING)) return [];
    const isKind = action === 'shell' || action === 'http';
    const isNamed = isKind ? rule.some((entry) => entry.startsWith(`${action}:`)) : isCovered(rule, action);
    if (!isNamed) return [action];
    return payload === undefined ? [] : needsOf(action, payload).filter((need) => !isCovered(rule, need));
  }

  #named(action: string): string[] {
    return this.allows.flatMap((entry) => {
      const [of, what] = splitNeed(entry);
      return of === action && what !== null ? [what] : [];
    });
  }
}

export class Policy {
  readonly #rules: readonly { from: readonly string[]; grant: Grant }[];
  /** For whom no rule names. */
  readonly #others: Grant;

  constructor(settings: Allowing & { policy?: readonly PolicyRule[] | undefined }) {
    const { policy } = settings;
    this.#rules = (policy ?? []).map(({ from, allow, limits }, at) => ({
      from,
      grant: new Grant(settings, allow, limits, `policy[${at}].limits`),
    }));
    this.#others = new Grant(settings, policy === undefined ? null : []);
  }

  /** The same object for all callers of a rule. */
  grantFor(caller: Caller): Grant {
    return this.#rules.find(({ from }) => from.some((name) => isMeant(name, caller)))?.grant ?? this.#others;
  }

  /** The limits of all rules. */
  get limits(): AttemptLimits[] {
    return this.#rules.map(({ grant }) => grant.limits);
  }

  /** What any caller may be allowed. */
  allowsSomebody(): string[] {
    return [...new Set([this.#others, ...this.#rules.map(({ grant }) => grant)].flatMap(({ allows }) => allows))];
  }

  /** Why a caller may not run something, for people; null when it may. */
  refuses(caller: Caller, action: string, payload?: JsonObject): string | null {
    const forbidden = this.grantFor(caller).forbids(action, payload);
    if (forbidden.length === 0) return null;
    return `this peer's policy does not let ${nameOf(caller)} run ${forbidden.join(' and ')} (setting policy)`;
  }
}

function isMeant(name: string, { peer_id, own, roles }: Caller): boolean {
  if (name === EVERYTHING || name === peer_id) return true;
  if (name === 'self') return own;
  return [...roles].some((role) => name === `role:${role}`);
}

function nameOf({ peer_id, own, roles }: Caller): string {
  if (own) return 'itself';
  return roles.size === 0 ? `peer ${peer_id}` : `peer ${peer_id} (roles ${[...roles].join(', ')})`;
}

/** Hosts are compared in lower case, programs as they are. */
function lowerHost(entry: string): string {
  return entry.startsWith('http:') ? entry.toLowerCase() : entry;
}

function isCovered(rule: readonly string[], need: string): boolean {
  return rule.some((entry) => both(need, entry) === need);
}

/** What two lists allow both. */
function shared(one: readonly string[], other: readonly string[]): string[] {
  const found = one.flatMap((each) => other.flatMap((entry) => both(each, entry) ?? []));
  return [...new Set(found)];
}

/** What two entries allow both: the narrower one, as one of two patterns holds the other or nothing of it. */
function both(one: string, other: string): string | null {
  if (other === EVERYTHING || one === other) return one;
  const [action, what] = splitNeed(one);
  const [otherAction, otherWhat] = splitNeed(other);
  if (action !== otherAction || what === null || otherWhat === null) return null;
  if (covers(otherWhat, what)) return one;
  return covers(what, otherWhat) ? other : null;
}
