/** Fields and shapes that several tools share, so that each means the same everywhere. */
import { z } from 'zod';
import { ID_CHARS_MAX } from '../dag/limits.ts';
import { idSchema } from '../dag/schema.ts';
import { errorSchema, lineSchema } from '../scheduler/records.ts';

/** Items in one page of a list. */
export const LIST_LIMIT_MAX = 1_000;
/** How far into a list a page may start. */
export const LIST_OFFSET_MAX = 1_000_000;
/** Tags or capabilities in one filter. */
export const FILTER_ITEMS_MAX = 64;
const TEXT_CHARS_MAX = 1_024;
const UID_SUFFIX_CHARS_MAX = 32;
const MULTIADDR_CHARS_MAX = 512;
/** The longest wait that a call of the peer tools may ask for. */
export const WAIT_MS_MAX = 600_000;

// ---- inputs

/** The id of an existing record: as it was submitted, followed by `~<uid>` if the record yielded that id to another. */
const givenIdSchema = z
  .string()
  .regex(new RegExp(`^[A-Za-z0-9._:-]{1,${ID_CHARS_MAX}}(~[0-9a-v]+)?$`), {
    error: `must be 1 to ${ID_CHARS_MAX} characters of A-Z a-z 0-9 . _ : - (and ~<uid> for a record that gave way)`,
  })
  .max(ID_CHARS_MAX + UID_SUFFIX_CHARS_MAX)
  .refine((id) => id !== '__proto__', { error: 'must not be __proto__' });

export const workflowIdField = givenIdSchema.describe(
  'The workflow, as workflow_submit answered it. Any peer of the mesh can be asked.',
);
export const taskIdField = givenIdSchema.describe(
  'The task, as task_submit or task_list answered it. Any peer of the mesh can be asked.',
);
export const workerIdField = idSchema.describe('The worker, on whichever peer of the mesh it is.');
export const peerIdField = z
  .string()
  .min(1)
  .max(TEXT_CHARS_MAX)
  .refine((text) => !/\p{C}/u.test(text), { error: 'must be a peer id or a name, as peer_list shows it' })
  .describe('The peer: its id, its name, or the short id that a table shows.');
export const multiaddrField = z
  .string()
  .max(MULTIADDR_CHARS_MAX)
  .regex(/^\/\S+$/, 'must be a multiaddr such as /ip4/127.0.0.1/tcp/7600');
export const reasonField = z
  .string()
  .max(TEXT_CHARS_MAX)
  .optional()
  .describe('Why, for the record and for other people.');
export const forceField = z
  .boolean()
  .default(false)
  .describe('Kill what runs at once, without the grace time to clean up.');
export const limitField = (standard: number) =>
  z.number().int().min(1).max(LIST_LIMIT_MAX).default(standard).describe('How many to return, at most.');
export const offsetField = z
  .number()
  .int()
  .min(0)
  .max(LIST_OFFSET_MAX)
  .default(0)
  .describe('How many to leave out first.');
export const submittedByOut = z
  .string()
  .optional()
  .describe('The caller whose it is; absent where nobody was asked who they are.');

export const scopeField = z
  .enum(['local', 'mesh'])
  .default('mesh')
  .describe('mesh: every connected peer is asked too and the answers are put together. local: what this peer owns.');
/** The scope of a change: it reaches no further than the asked peer unless the call says so. */
export const changeScopeField = z
  .enum(['local', 'mesh'])
  .default('local')
  .describe('local: the queue of this peer. mesh: that of every connected peer too.');
export const tagFilterField = z
  .array(z.string().min(1).max(128))
  .max(FILTER_ITEMS_MAX)
  .default([])
  .describe('Only those that have all of these tags.');
export const capabilityFilterField = z
  .array(z.string().min(1).max(256))
  .max(FILTER_ITEMS_MAX)
  .default([])
  .describe(
    'Only peers with one worker that offers all of these: actions (`shell`, `fn:resize`), programs and hosts that they may use (`shell:rsync`, `http:example.org`) and labels (`gpu`).',
  );
export const waitField = (standard: number) =>
  z.number().int().min(1).max(WAIT_MS_MAX).default(standard).describe('How long to wait at most, in milliseconds.');

// ---- outputs

export const timeOut = z.string().nullable().describe('ISO 8601 UTC, or null when it has not happened.');
export const countOut = z.number().int().nonnegative();
export const msOut = z.number().nullable().describe('Milliseconds, or null when not known yet.');
export const missingOut = z
  .array(z.string())
  .optional()
  .describe('Of the mesh: peers that did not answer and are not counted in.');
export const durabilityOut = z
  .object({ copies: countOut, wanted: countOut })
  .describe('On how many disks the record is now, of how many wanted.');
export const warningsOut = z
  .array(z.object({ at: z.string().describe('The place in what was submitted.'), message: z.string() }))
  .optional()
  .describe('What was accepted and is probably not what was meant. Only when there is any.');
export const staleOut = z
  .number()
  .optional()
  .describe(
    'Only when a copy answered because the owner could not be reached: for how long that one has been silent. What happened meanwhile is not in the answer.',
  );
export const pageOut = {
  total_count: countOut.describe('How many match, on all pages.'),
  returned_count: countOut.describe('How many are in this answer.'),
  has_more: z.boolean().describe('True when a larger offset shows more.'),
  missing: missingOut,
};
export const pendingOut = z
  .boolean()
  .optional()
  .describe(
    'True when nobody can change it now, because the peer that owns it cannot be reached: the call is kept, and done by its next owner, or when that one is back.',
  );
export const duplicateOut = z
  .boolean()
  .optional()
  .describe('True when this id had been submitted before with the same content: the existing record is answered.');

/**
 * Other ends of a record, from the other side of a partition.
 * @param end the fields of the tool for the status and the result of such an end
 */
export const supersededOut = <E extends z.ZodRawShape>(end: E) =>
  z
    .array(
      z.object({
        ...end,
        error: errorSchema.nullable(),
        line: lineSchema.describe('Who owned it there (`owner`), and since which takeover (`epoch`).'),
        superseded_at: z.string().describe('When the sides met again, ISO 8601 UTC.'),
      }),
    )
    .optional()
    .describe(
      'How it ended on the other side of a partition, where that was another end than this one. This one counts.',
    );

/** `value` rounded to `digits` decimals, for figures that people read. */
export function rounded(value: number, digits = 3): number {
  const scale = 10 ** digits;
  return Math.round(value * scale) / scale;
}
