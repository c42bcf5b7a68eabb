/** Who makes a call, as this peer has found out, and what that one may do here. */
import { type Caller, EVERYBODY } from '../../scheduler/caller.ts';
import { othersOf } from '../../tools/permissions.ts';

/** For the audit trail. */
export interface Origin {
  /** The address of the client. */
  from?: string | undefined;
  /** The beginning of the id of its session: enough to find it, too little to use it. */
  session?: string | undefined;
}

export interface Principal {
  /** What other peers are told of it. */
  caller: Caller;
  /** Patterns (`tools/permissions.ts`). */
  permissions: readonly string[];
  /** For people, beside the id. */
  name?: string | undefined;
  /** Where its request came from; absent where that is nobody's question. */
  origin?: Origin | undefined;
  /** Ms since 1970 after which its key or token is no good any more; absent: none is known. */
  expires_at?: number | undefined;
}

/** Everyone, where nobody is asked who they are. */
export const ANYONE: Principal = { caller: EVERYBODY, permissions: ['*'] };

/** @param id the same at every peer, such as `key:ci` */
export function principalOf(id: string, permissions: readonly string[], more: Partial<Principal> = {}): Principal {
  return { ...more, caller: { id, others: othersOf(permissions) }, permissions };
}

/** Whose sessions are whose: a session belongs to the id that opened it. */
export function idOf({ caller }: Principal): string {
  return caller.id ?? '';
}
