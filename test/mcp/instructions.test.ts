/**
 * A program that has only what a server says of itself: the instructions and tools/list. Each fact that the workflow of
 * examples/approval.yaml was written with has to be in them.
 */
import { readFileSync } from 'node:fs';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { WorkflowGraph } from '../../dag/graph.ts';
import { parseWorkflow } from '../../dag/schema.ts';
import { silentLog } from '../../node/log.ts';
import { EXAMPLE } from '../../node/mcp/instructions.ts';
import { type Listener, startListener } from '../../node/mcp/listener.ts';
import { EchoRouter, INFO } from './echo-router.ts';

/** What clients show of the instructions. */
const INSTRUCTIONS_CHARS_MAX = 2_048;

interface Schema {
  description?: string;
  properties?: Record<string, Schema>;
  items?: Schema;
  enum?: string[];
}

let listener: Listener;
let client: Client;
let instructions: string;
let submit: Schema;
let everything: string;

beforeAll(async () => {
  listener = await startListener({ router: new EchoRouter(), host: '127.0.0.1', port: 0, info: INFO, log: silentLog });
  client = new Client({ name: 'test', version: '1.0.0' });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${listener.url}/mcp`)));
  instructions = client.getInstructions()!;
  const { tools } = await client.listTools();
  submit = tools.find(({ name }) => name === 'workflow_submit')!.inputSchema as Schema;
  everything = `${instructions}\n${JSON.stringify(tools)}`;
});
afterAll(async () => {
  await client.close();
  await listener.close();
});

const stepField = (name: string) => submit.properties!['steps']!.items!.properties![name]!;
const says = (field: Schema, ...words: (string | RegExp)[]) => {
  for (const word of words) {
    if (typeof word === 'string') expect(field.description).toContain(word);
    else expect(field.description).toMatch(word);
  }
};

describe('what a model is told', () => {
  it('fits into what clients show', () => {
    expect(instructions.length).toBeLessThanOrEqual(INSTRUCTIONS_CHARS_MAX);
  });

  it('has an example that is a workflow', () => {
    expect(instructions).toContain(JSON.stringify(EXAMPLE));
    const { steps } = parseWorkflow(EXAMPLE);
    expect(new WorkflowGraph(steps).order).toEqual(['draft', 'review', 'print']);
  });

  it('names every action with what it takes and returns', () => {
    const action = stepField('action');
    says(
      action,
      /shell \{ command: \[.*\} → \{ exit_code, stdout, stderr \}/,
      /http \{ url.*→ \{ status, headers, body \}/,
    );
    says(
      action,
      'echo (anything) → its inputs',
      'sleep { duration_ms }',
      'approve { message } asks a person → { approved, data }',
    );
    says(action, /workflow \{ workflow.*→ the result/, /fn:<name> .*→ what that function/);
    for (const name of ['shell', 'http', 'echo', 'sleep', 'approve', 'workflow', 'fn:<name>'])
      expect(instructions).toContain(name);
  });

  it('says that ${ } is JSONata, with its three traps', () => {
    expect(instructions).toMatch(/\$\{ … \}: JSONata/);
    expect(instructions).toMatch(/one match gives that match, not a list of one.*\[\]/);
    expect(instructions).toMatch(/Missing data gives nothing \(null\), not an error.*\$exists/);
    expect(instructions).toMatch(/not JavaScript: = and != compare, `and` and `or`.*& joins strings/);
  });

  it('says how an approval is answered, and that no tool does it', () => {
    expect(instructions).toMatch(/waits as input_required until a person answers; no tool does/);
    expect(instructions).toMatch(/<workflow_id>:<step_id>.*flowmesh task answer <task_id> --approve --data .*--reject/);
    expect(instructions).toMatch(/output is \{ approved, data \}.*fails \(REJECTED\)/);
  });

  it('has every fact that the workflow of approval.yaml needs', () => {
    const example = parse(readFileSync(new URL('../../examples/approval.yaml', import.meta.url), 'utf8')) as {
      steps: Record<string, unknown>[];
    };
    for (const field of Object.keys(example)) expect(submit.properties, field).toHaveProperty([field]);
    for (const field of new Set(example.steps.flatMap((step) => Object.keys(step)))) stepField(field);
    for (const name of new Set(JSON.stringify(example).match(/\$[a-z]+(?=\()/g)))
      expect(everything.includes(name), name).toBe(true);

    says(submit.properties!['input']!, '${ input.<name> }');
    says(submit.properties!['output']!, '${ … }', /skipped step would give is null/);
    says(submit.properties!['tags']!, 'workflow_list');
    says(stepField('step_id'), 'Unique', 'depends_on', '${ steps.<step_id>.output }');
    says(stepField('depends_on'), /must end before/, /all that its expressions mention/);
    says(stepField('inputs'), 'steps.<step_id>.output', '.status', /keeps the type/, /longer one it is filled in/);
    says(stepField('when'), 'skipped', 'steps.review.status = "completed"');
    says(stepField('on_failure'), /continue: dependents run all the same, and see its status "failed"/);
    expect(stepField('on_failure').enum).toEqual(['fail', 'skip', 'continue']);
    expect(instructions).toMatch(/c \? a : b/);
    for (const status of ['input_required', 'completed', 'failed'])
      expect(everything.includes(status), status).toBe(true);
  });
});
