/**
 * The setting `policy`: which callers may run what here. What it means is in `node/executors/policy.ts`; here it is read,
 * and what is written wrongly is said with the field it is in.
 */
import { z } from 'zod';
import { ROLES } from '../../scheduler/roles.ts';
import { peerIdSchema } from './peer-id.ts';

/** Of one policy, and entries of one list of a rule. */
const RULES_MAX = 256;
const ENTRIES_MAX = 1_024;
/** Actions that an entry names as they are. */
const PLAIN_ACTIONS = ['echo', 'http-private'];
const MADE_OF_PARTS: Record<string, string> = {
  shell: 'shell:git, or shell:* for every program',
  http: 'http:example.org, http:*.example.org for all below it, or http:* for every host',
  fn: 'fn:resize, or fn:* for every function',
};

const callerSchema = z.string().superRefine((value, context) => {
  const message = callerProblem(value);
  if (message !== null) context.addIssue({ code: 'custom', message });
});

const allowedSchema = z.string().superRefine((value, context) => {
  const message = allowedProblem(value);
  if (message !== null) context.addIssue({ code: 'custom', message });
});

const positive = z.number('must be a number').positive('must be more than 0');
const whole = z.int('must be a whole number').min(1, 'must be at least 1');

const limitsSchema = z
  .strictObject({
    memory_mb: whole.optional().describe('Memory of all its processes, in MB (MiB)'),
    cpu_s: positive.optional().describe('Processor time of all its processes, in seconds'),
    processes: whole.optional().describe('Processes and threads at once'),
    output_mb: positive.optional().describe('What it writes to stdout and stderr, logs and returns, in MB (MiB)'),
    wall_s: positive.optional().describe('How long it may run, in seconds'),
  })
  .describe('What an attempt of a `shell` or `fn` action may use; absent: no limits but those of every peer');

const ruleSchema = z.strictObject({
  from: z
    .array(callerSchema)
    .min(1, 'must name at least one caller; "*" is everybody')
    .max(ENTRIES_MAX, `must have at most ${ENTRIES_MAX} entries`)
    .describe(
      'Whose work: the ids of peers, `role:admin` and the like (what their certificate says), `self` (this peer), or `*` (everybody)',
    ),
  allow: z
    .array(allowedSchema)
    .max(ENTRIES_MAX, `must have at most ${ENTRIES_MAX} entries`)
    .describe(
      'What may run: `shell:git`, `shell:*`, `http:example.org`, `http:*.example.org`, `http:*`, `http-private` (private addresses of these hosts), `fn:resize`, `fn:*`, `echo`, or `*` (everything); an empty list: nothing',
    ),
  limits: limitsSchema.optional(),
});

export const policySchema = z.array(ruleSchema).max(RULES_MAX, `must have at most ${RULES_MAX} rules`);

function callerProblem(value: string): string | null {
  if (value === '*' || value === 'self') return null;
  if (!value.startsWith('role:')) {
    return peerIdSchema.safeParse(value).success
      ? null
      : 'must be the id of a peer, "role:<role>", "self", or "*" for everybody';
  }
  const role = value.slice('role:'.length);
  return ROLES.some((each) => each === role) ? null : `names no role; the roles are ${ROLES.join(', ')}`;
}

function allowedProblem(value: string): string | null {
  if (value === '*' || PLAIN_ACTIONS.includes(value)) return null;
  const colon = value.indexOf(':');
  const action = colon === -1 ? value : value.slice(0, colon);
  const what = colon === -1 ? '' : value.slice(colon + 1);
  const example = MADE_OF_PARTS[action];
  if (example === undefined)
    return `is nothing that can run here; write one of shell:…, http:…, fn:…, ${PLAIN_ACTIONS.join(', ')}, *`;
  if (what === '') return `does not say which; write ${example}`;
  if (action === 'http' && what.includes('/')) return `must name a host alone; write ${example}`;
  return null;
}
