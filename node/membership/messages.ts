/**
 * What two peers say to each other before one is let in, and members about members afterwards. CBOR, with a length
 * before each message.
 *
 *   listener → dialler  `Offer`      who I am; the joiner checks it before it says anything
 *   dialler → listener  `Answer`     a member shows its chain, one that expired too, a joiner shows its invite
 *   listener → dialler  `Decision`   let in, or why not
 *   dialler → listener  `Told`       what the listener does not know of the mesh
 *
 * Statements travel only where the digests differ.
 */
import { decode, encode } from 'cborg';
import { z } from 'zod';
import { boundedError, type ErrorShape } from '../../dag/errors.ts';
import { errorSchema } from '../../scheduler/records.ts';
import { MembershipError } from './errors.ts';
import { ROOTS_MAX } from './limits.ts';
import { memberName } from './statement.ts';

/** What another peer says of a failure is shown to people. */
const reportedError = errorSchema.transform((error) => boundedError(error as ErrorShape));
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'must be bytes');
const chain = z.array(bytes).max(2);
/** What roots say of each other, and whom they put out last. */
const roots = z.array(bytes).max(2 * ROOTS_MAX);
const digest = z.string().max(64);
const statements = z.array(bytes).max(16_384);

export const offerSchema = z.object({ mesh: z.string().max(64), chain, roots, digest, nonce: bytes });
export type Offer = z.infer<typeof offerSchema>;

export const answerSchema = z.discriminatedUnion('as', [
  /** `renewed`: a new certificate for the listener, whose own has expired. */
  z.object({ as: z.literal('member'), chain, roots, digest, renewed: bytes.optional() }),
  z.object({ as: z.literal('expired'), chain, roots, digest }),
  z.object({ as: z.literal('joiner'), invite: bytes, proof: bytes, name: memberName }),
]);
export type Answer = z.infer<typeof answerSchema>;

export const decisionSchema = z.union([
  /** `statements` has the new certificate of one that joined or was renewed. */
  z.object({ admitted: z.literal(true), statements }),
  /** `statements` are the revocations, which prove it. */
  z.object({ admitted: z.literal(false), error: reportedError, statements }),
]);
export type Decision = z.infer<typeof decisionSchema>;

export const toldSchema = z.object({ statements });

/** Between members, at any time: new statements, or the wish for a new certificate. */
export const memberCallSchema = z.discriminatedUnion('call', [
  z.object({ call: z.literal('tell'), statements }),
  z.object({ call: z.literal('renew'), chain, roots }),
]);
export type MemberCall = z.infer<typeof memberCallSchema>;
export const memberAnswerSchema = z.union([z.object({ statements }), z.object({ error: reportedError })]);

export function pack(
  message: Offer | Answer | Decision | z.infer<typeof toldSchema | typeof memberAnswerSchema> | MemberCall,
): Uint8Array {
  return encode(message, { ignoreUndefinedProperties: true });
}

/** @throws MembershipError INVALID_ADMISSION */
export function unpack<S extends z.ZodType>(schema: S, message: Uint8Array): z.output<S> {
  let value: unknown;
  try {
    value = decode(message, { allowIndefinite: false, rejectDuplicateMapKeys: true });
  } catch (error) {
    throw new MembershipError('INVALID_ADMISSION', 'What the peer said of its membership is not CBOR.', {
      cause: error,
    });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new MembershipError(
    'INVALID_ADMISSION',
    `What the peer said of its membership is not of this version: ${z.prettifyError(parsed.error)}`,
    { cause: parsed.error },
  );
}
