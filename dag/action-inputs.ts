/**
 * The inputs of the built-in actions: one schema each. It checks a submitted workflow or task, and then the same inputs
 * again when the step runs and its expressions have values.
 *
 *   parseInputs('sleep', { seconds: 1 });
 *   // InvalidInputsError: duration_ms is missing; seconds is not a known field (known: duration_ms) (sleep takes …)
 */
import { z } from 'zod';
import { FlowmeshError, type JsonObject, type JsonValue } from './errors.ts';
import { anyJson, jsonObject } from './json.ts';
import { COMMAND_WORDS_MAX, DURATION_MS_MAX, HTTP_TIMEOUT_MS } from './limits.ts';
import { describeProblems, joinPlaces, type Problem } from './problems.ts';
import { fillTemplate, isLiteralAt, type Template } from './template.ts';

/** Expressions keep types, so numbers and booleans are words too. */
const word = z
  .union([z.string(), z.number(), z.boolean()], 'must be a string, a number or true or false')
  .transform(String)
  .refine((text) => !text.includes('\0'), 'must not have a NUL character');

/** How an action treats an integer in its output that a number cannot hold exactly. */
const bigNumbers = z.enum(['refuse', 'string']).default('refuse');

const shellInputsSchema = z.strictObject({
  command: z
    .array(word, 'must be a list of words such as ["wc", "-l"]; write ["sh", "-c", "…"] for a line of shell')
    .min(1, 'must name a command')
    .max(COMMAND_WORDS_MAX, `must have at most ${COMMAND_WORDS_MAX} words`)
    .refine((words) => words[0] !== '', 'must begin with the name of a command'),
  cwd: z.string().min(1).optional(),
  env: namedValues(word, (name) => (/^[^=\0]+$/.test(name) ? null : 'is not the name of a variable')).default({}),
  /** A string as it is; any other value as JSON. */
  stdin: anyJson.optional(),
  parse: z.enum(['text', 'json', 'lines']).default('text'),
  big_numbers: bigNumbers,
});
export type ShellInputs = z.output<typeof shellInputsSchema>;

/** Headers that the connection sets itself, and `Host`: it could name another site than the one the policy allowed. */
const CONNECTION_HEADERS = new Set([
  'host',
  'connection',
  'content-length',
  'expect',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

const httpStatus = z.int('must be a status such as 200').min(100).max(599);

const headerValue = z
  .union([z.string(), z.number(), z.boolean()], 'must be a string, a number or true or false')
  .transform(String)
  .refine((text) => /^[\t\x20-\x7e\x80-\xff]*$/.test(text), 'has characters that a header cannot hold');

const httpInputsSchema = z
  .strictObject({
    url: z.string().superRefine((text, context) => {
      const message = urlProblem(text);
      if (message !== null) context.addIssue({ code: 'custom', message });
    }),
    method: z
      .string()
      .toUpperCase()
      .pipe(z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']))
      .default('GET'),
    headers: namedValues(headerValue, headerProblem).default({}),
    /** A string as it is; any other value as JSON. */
    body: anyJson.optional(),
    timeout_ms: z.int().min(1).max(DURATION_MS_MAX).default(HTTP_TIMEOUT_MS),
    big_numbers: bigNumbers,
    redirect: z.enum(['follow', 'manual', 'error']).optional(),
    expect_status: z.union([httpStatus, z.array(httpStatus).min(1)], 'must be a status or a list of them').optional(),
  })
  .refine((inputs) => inputs.body === undefined || !['GET', 'HEAD'].includes(inputs.method), {
    path: ['body'],
    message: 'cannot be sent with GET or HEAD',
  })
  .superRefine(({ body, headers }, context) => {
    if (body === undefined || typeof body === 'string' || !isForm(headers)) return;
    for (const { path, message } of formProblems(body)) {
      context.addIssue({ code: 'custom', path: ['body', ...path], message });
    }
  });
export type HttpInputs = z.output<typeof httpInputsSchema>;

const sleepInputsSchema = z.strictObject({
  duration_ms: z
    .number()
    .min(0, 'must be 0 or more')
    .max(DURATION_MS_MAX, `must be at most ${DURATION_MS_MAX} (30 days)`),
});

const approveInputsSchema = z.strictObject({
  /** The question to the person. */
  message: word.optional(),
});

const nestedInputsSchema = z.strictObject({
  workflow: z.custom<JsonObject>(
    (value) => jsonObject.safeParse(value).success,
    'must be a whole workflow { name, steps, … }, not the name of one; to wait for another workflow, name its id in `dependencies`',
  ),
  input: jsonObject.optional(),
});

const SCHEMAS = {
  shell: shellInputsSchema,
  http: httpInputsSchema,
  echo: jsonObject,
  sleep: sleepInputsSchema,
  approve: approveInputsSchema,
  workflow: nestedInputsSchema,
};
export type BuiltInAction = keyof typeof SCHEMAS;

/** Actions that flowmesh itself knows; `fn:<name>` are the users' own. */
export const BUILT_IN_ACTIONS = Object.keys(SCHEMAS) as BuiltInAction[];

/** Inputs that do not fit their action. `details.problems` lists `{ path, message }`. */
export class InvalidInputsError extends FlowmeshError {
  /** @param place of the inputs in what the client submitted; empty for inputs that no client wrote */
  constructor(action: string, problems: readonly Problem[], place = '') {
    const placed = problems.map(({ path, message }) => ({ path: joinPlaces(place, path), message }));
    const list = placed.map(({ path, message }) => (path === '' ? message : `${path} ${message}`)).join('; ');
    super('INVALID_PAYLOAD', `inputs of action "${action}": ${list}`, { details: { problems: placed } });
  }
}

/** @throws InvalidInputsError naming every problem with its place */
export function parseInputs<A extends BuiltInAction>(action: A, inputs: unknown): z.output<(typeof SCHEMAS)[A]> {
  const parsed = SCHEMAS[action].safeParse(inputs);
  if (parsed.success) return parsed.data as z.output<(typeof SCHEMAS)[A]>;
  throw new InvalidInputsError(action, inputProblems(action, inputs));
}

/** The problems of an action's inputs. None for an action that is not built in: it takes anything. */
export function inputProblems(action: string, inputs: unknown): Problem[] {
  return problemsOf(action, inputs, () => true);
}

/** As `inputProblems`, before the expressions have values: a value that contains an expression passes. */
export function literalProblems(action: string, inputs: Template): Problem[] {
  const value = fillTemplate(inputs, new Map(inputs.expressions.map((text) => [text, `\${ ${text} }`])));
  return problemsOf(action, value, (path) => isLiteralAt(inputs, path));
}

function problemsOf(action: string, inputs: unknown, isMeant: (path: readonly PropertyKey[]) => boolean): Problem[] {
  if (!isBuiltIn(action)) return [];
  const schema = SCHEMAS[action];
  const { error } = schema.safeParse(inputs);
  const issues = error?.issues.filter(({ code, path }) => code === 'unrecognized_keys' || isMeant(path)) ?? [];
  const problems = describeProblems(new z.ZodError(issues), schema, inputs);
  const last = problems.at(-1);
  if (last !== undefined) last.message += ` (${usageOf(action)})`;
  return problems;
}

function isBuiltIn(action: string): action is BuiltInAction {
  return Object.hasOwn(SCHEMAS, action);
}

/** Which fields an action has, for the end of an error: `shell takes command, and may have cwd, env, …`. */
function usageOf(action: BuiltInAction): string {
  const schema: z.ZodType = SCHEMAS[action];
  const fields = schema instanceof z.ZodObject ? Object.entries(schema.shape as Record<string, z.ZodType>) : [];
  const optional = fields.filter(([, field]) => field.safeParse(undefined).success).map(([name]) => name);
  const needed = fields.map(([name]) => name).filter((name) => !optional.includes(name));
  if (needed.length === 0) return `the action "${action}" may have ${optional.join(', ')}`;
  const rest = optional.length === 0 ? '' : `, and may have ${optional.join(', ')}`;
  return `the action "${action}" takes ${needed.join(', ')}${rest}`;
}

/** An object with any names, each checked by `problemOf` (null: fine): zod would not say what is wrong with a name. */
function namedValues<V extends z.ZodType>(value: V, problemOf: (name: string) => string | null) {
  return z.record(z.string(), value).superRefine((values, context) => {
    for (const name of Object.keys(values)) {
      const message = problemOf(name);
      if (message !== null) context.addIssue({ code: 'custom', path: [name], message });
    }
  });
}

function headerProblem(name: string): string | null {
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) return 'is not the name of a header';
  return CONNECTION_HEADERS.has(name.toLowerCase()) ? 'is set by the connection' : null;
}

/** Whether a body that is an object is sent as the fields of a form. */
export function isForm(headers: Record<string, string>): boolean {
  const type = Object.entries(headers).find(([name]) => name.toLowerCase() === 'content-type')?.[1] ?? '';
  return /^\s*application\/x-www-form-urlencoded\s*(;|$)/i.test(type);
}

function formProblems(body: JsonValue): { path: string[]; message: string }[] {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    return [{ path: [], message: 'must be a string or an object of fields, as its content type is that of a form' }];
  }
  const message =
    'must be a string, a number, true or false, or a list of these, as its content type is that of a form';
  const isField = (value: JsonValue) => ['string', 'number', 'boolean'].includes(typeof value);
  const wrong = Object.keys(body).filter((name) => ![body[name]!].flat().every(isField));
  return wrong.map((name) => ({ path: [name], message }));
}

function urlProblem(text: string): string | null {
  if (!URL.canParse(text)) return 'must be a whole URL such as https://example.org/path';
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return `must be http or https, not ${url.protocol}`;
  if (url.username !== '' || url.password !== '') return 'must not hold a password; use an authorization header';
  return null;
}
