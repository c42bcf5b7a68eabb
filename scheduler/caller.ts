/**
 * Who asks for something, as the peer says that has found out (`node/auth/`). Records belong to who submitted them: others
 * see and change them as far as `others` goes, and for everybody else they do not exist.
 */
import { z } from 'zod';

export const CALLER_ID_CHARS_MAX = 256;

export const callerIdSchema = z.string().min(1).max(CALLER_ID_CHARS_MAX);

export const callerSchema = z.object({
  /** The same at every peer, such as `key:ci`; null where nobody is asked who they are. */
  id: callerIdSchema.nullable(),
  /** What the caller may do with records of others. */
  others: z.enum(['none', 'read', 'write']),
});
export type Caller = z.infer<typeof callerSchema>;

/** Everyone, where nobody is asked who they are. */
export const EVERYBODY: Caller = { id: null, others: 'write' };

interface Owned {
  submitted_by?: string | undefined;
}

/** Whether the record exists for the caller. */
export function maySee(caller: Caller, record: Owned): boolean {
  return caller.others !== 'none' || isOwn(caller, record);
}

/** Whether the caller may change a record that it may see. */
export function mayChange(caller: Caller, record: Owned): boolean {
  return caller.others === 'write' || isOwn(caller, record);
}

/** Whose records a caller sees; undefined: everybody's. */
export function onlyOf({ id, others }: Caller): string | undefined {
  return others === 'none' ? (id ?? '') : undefined;
}

function isOwn({ id }: Caller, { submitted_by }: Owned): boolean {
  return id !== null && submitted_by === id;
}
