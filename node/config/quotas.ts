/** The settings under `limits`: how much each caller may ask, where callers are asked who they are. */
import { z } from 'zod';
import {
  CALLER_BYTES_PER_MINUTE,
  CALLER_CALLS_PER_SECOND,
  CALLER_OPEN_WORKFLOWS_MAX,
  CALLER_REQUESTS_PER_SECOND,
  CALLER_SUBMISSIONS_PER_MINUTE,
} from './limits.ts';

const COUNT_MAX = 1_000_000_000;
const BYTES_MAX = 2 ** 50;
const TOOLS_MAX = 64;

const whole = (max: number) =>
  z.int('must be a whole number').min(1, 'must be at least 1').max(max, `must be at most ${max}`);
const countSchema = whole(COUNT_MAX);

export const limitsSchema = z.strictObject({
  requests_per_second: countSchema.default(CALLER_REQUESTS_PER_SECOND).describe('HTTP requests of one caller'),
  calls_per_second: countSchema.default(CALLER_CALLS_PER_SECOND).describe('Calls of one tool by one caller'),
  tools: z
    .record(z.string().regex(/^[a-z_]{1,64}$/, 'must be the name of a tool'), countSchema)
    .refine((tools) => Object.keys(tools).length <= TOOLS_MAX, `must have at most ${TOOLS_MAX} tools`)
    .default({})
    .describe('The same for single tools by their name, in place of calls_per_second'),
  submissions_per_minute: countSchema
    .default(CALLER_SUBMISSIONS_PER_MINUTE)
    .describe('Workflows and tasks that one caller submits'),
  bytes_per_minute: whole(BYTES_MAX)
    .default(CALLER_BYTES_PER_MINUTE)
    .describe('Bytes that one caller sends in bodies of HTTP requests'),
  open_workflows: countSchema
    .default(CALLER_OPEN_WORKFLOWS_MAX)
    .describe('Workflows of one caller that have not ended, as far as this peer has their records'),
  redis_url: z
    .string()
    .regex(/^rediss?:\/\/\S+$/, 'must be a URL such as redis://127.0.0.1:6379')
    .optional()
    .describe(
      'A Redis in which peers with the same limits count together; while it is down each counts by itself (REDIS_URL)',
    ),
});
export type LimitsSettings = z.output<typeof limitsSchema>;
