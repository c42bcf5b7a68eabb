import type { HttpPolicy } from './address-policy.ts';
import type { ShellPolicy } from './shell-command.ts';

/** The part of the peer's config that says what may run here: see `node/config/`. */
export interface ExecutorConfig {
  data_dir: string;
  /** Variables of this peer that `shell` and `fn` processes get beside the ordinary ones. */
  pass_env: string[];
  shell: ShellPolicy;
  http_action: HttpPolicy;
  /** Module files for `fn:`, absolute or relative to the working folder. */
  functions: string[];
}
