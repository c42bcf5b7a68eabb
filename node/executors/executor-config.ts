import type { AttemptLimits } from '../processes/confinement.ts';
import type { HttpPolicy } from './address-policy.ts';
import type { ShellPolicy } from './shell-command.ts';

/** One rule of a policy: see `node/config/policy.ts`. */
export interface PolicyRule {
  /** Ids of peers, `role:<role>`, `self`, or `*` for everybody. */
  from: readonly string[];
  /** Actions and what `allowances.ts` names: `echo`, `fn:*`, `shell:git`, `http:*.example.org`; `*` for everything. */
  allow: readonly string[];
  /** Of each attempt of a `shell` or `fn` action. */
  limits?: AttemptLimits | undefined;
}

/** The part of the peer's config that says what may run here: see `node/config/`. */
export interface ExecutorConfig {
  data_dir: string;
  /** Variables of this peer that `shell` and `fn` processes get beside the ordinary ones. */
  pass_env: string[];
  shell: ShellPolicy;
  http_action: HttpPolicy;
  /** Module files for `fn:`, absolute or relative to the working folder. */
  functions: string[];
  /** Absent: everybody may run what the other settings allow. */
  policy?: readonly PolicyRule[] | undefined;
}
