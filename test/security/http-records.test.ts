/**
 * What belongs to another caller is not there: sessions, tasks, workflows, approvals and lists, at the peer that has them
 * and at another one of the mesh.
 */
import { join } from 'node:path';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { AUDIENCE, ISSUER, TokenMaker } from '../auth/tokens.ts';
import { temporaryFolder } from '../e2e/temporary-folder.ts';
import { eventually } from '../harness/eventually.ts';
import { type Caller, HttpPeers } from './http-peer.ts';

const ROOT = join(import.meta.dirname, '../..');
const PEERS = ['a', 'b'] as const;

let maker: TokenMaker;
let mesh: HttpPeers;
const keys: Record<string, string> = {};
const as = (name: string, peer: string = 'a') => mesh.caller(peer, keys[name]!);

beforeAll(async () => {
  maker = await TokenMaker.start();
  const jwt = { jwks_url: maker.jwks_url, jwks_private: true, issuer: ISSUER, audience: AUDIENCE };
  mesh = await HttpPeers.of([...PEERS], { jwt });
  for (const [name, role] of Object.entries({ ann: 'user', ben: 'user', watch: 'readonly', boss: 'admin' }))
    keys[name] = await mesh.key(name, { role });
});
afterAll(async () => {
  await mesh?.[Symbol.asyncDispose]();
  await maker?.[Symbol.asyncDispose]();
});

/** A workflow that waits for a person, and a task that waits for its time. @returns the id of the task that waits */
async function submitFor(caller: Caller, id: string): Promise<string> {
  const steps = [{ step_id: 'ask', action: 'approve', inputs: { message: 'Go on?' } }];
  const workflow = await caller.call('workflow_submit', { workflow_id: id, name: id, steps });
  expect(workflow.code).toBeUndefined();
  const later = { task_id: `${id}-later`, task_type: 'echo', payload: {}, delay_ms: 3_600_000 };
  expect((await caller.call('task_submit', later)).code).toBeUndefined();
  const asked = await eventually('it waits for a person', async () => {
    const { output } = await caller.call('task_list', { workflow_filter: id, status_filter: 'input_required' });
    return (output['tasks'] as { task_id: string }[])[0]?.task_id;
  });
  return asked;
}

describe.each(PEERS)('asked at %s', (peer) => {
  it('what another caller submitted is not found, whatever is asked of it, and stays as it is', async () => {
    const id = `of-ann-${peer}`;
    const asked = await submitFor(as('ann'), id);
    const ben = as('ben', peer);
    const [workflow, task] = [{ workflow_id: id }, { task_id: `${id}-later` }];
    const attempts: [string, JsonObject][] = [
      ...['workflow_status', 'workflow_result', 'workflow_dependencies', 'workflow_cancel'].map(
        (tool): [string, JsonObject] => [tool, workflow],
      ),
      ...['task_status', 'task_result', 'task_cancel', 'task_retry'].map((tool): [string, JsonObject] => [tool, task]),
      ['task_priority', { ...task, new_priority: 9 }],
      ['task_status', { task_id: asked }],
      ['task_cancel', { task_id: asked }],
      ['task_list', { workflow_filter: id }],
    ];
    await mesh.refused(peer, Array(attempts.length + 1).fill('NOT_FOUND'), async () => {
      for (const [tool, input] of attempts)
        expect([tool, (await ben.call(tool, input)).code]).toEqual([tool, 'NOT_FOUND']);
      const answer = await ben.post(`/tasks/${encodeURIComponent(asked)}/answer`, { approve: true });
      expect([answer.status, answer.code]).toEqual([404, 'NOT_FOUND']);
    });
    const own = await as('ann', peer).post(`/tasks/${encodeURIComponent(asked)}/answer`, { approve: true });
    expect(own.status).toBe(200);
    await eventually('her workflow goes on', async () => {
      return (await as('ann', peer).call('workflow_status', workflow)).output['status'] === 'completed';
    });
  });

  it('a list has what is the caller’s own; who may read all sees whose each is, and changes nothing', async () => {
    const id = `listed-${peer}`;
    await submitFor(as('ann', peer), id);
    const listed = async (name: string) => {
      const { output } = await as(name, peer).call('workflow_list', { limit: 200 });
      return output['workflows'] as { workflow_id: string; submitted_by?: string }[];
    };
    expect((await listed('ben')).filter(({ submitted_by }) => submitted_by !== 'key:ben')).toEqual([]);
    for (const name of ['ann', 'watch', 'boss'])
      expect(await listed(name)).toContainEqual(expect.objectContaining({ workflow_id: id, submitted_by: 'key:ann' }));
    const cancel = () => as('watch', peer).call('workflow_cancel', { workflow_id: id });
    expect((await mesh.refused(peer, ['FORBIDDEN'], cancel)).code).toBe('FORBIDDEN');
    expect((await as('boss', peer).call('workflow_cancel', { workflow_id: id })).output['status']).toBe('cancelled');
  });

  it('an id that another caller has taken is taken: the same submit is not answered with what is there', async () => {
    const taken = { task_id: `taken-${peer}`, task_type: 'echo', payload: { for: 'ann' }, delay_ms: 3_600_000 };
    expect((await as('ann').call('task_submit', taken)).code).toBeUndefined();
    expect((await as('ann', peer).call('task_submit', taken)).output).toMatchObject({ duplicate: true });
    const told = await as('ben', peer).call('task_submit', taken);
    expect([told.code, told.output['status']]).toEqual(['CONFLICT', undefined]);
  });

  it('the session of another caller does not exist', async () => {
    const ann = as('ann', peer);
    await ann.initialize();
    const thief = as('ben', peer).resume(ann);
    expect((await thief.rpc('tools/list')).status).toBe(404);
    expect((await ann.rpc('tools/list')).status).toBe(200);
  });
});

it('three clients, each in its own way: a key, a token of a secret service, and one in the Inspector; each sees its own', async () => {
  const steps: JsonObject[] = [
    { step_id: 'first', action: 'echo', inputs: { n: 1 } },
    { step_id: 'last', action: 'echo', inputs: { n: '{{ steps.first.output.n }}' }, depends_on: ['first'] },
  ];
  const submission = (workflow_id: string) => ({ workflow_id, name: 'the same', steps });
  const url = `${mesh.peer('b').http_url!}/mcp`;
  const shown = {
    sdk: keys['ben']!,
    raw: await maker.token({ claims: { sub: 'raw' } }),
    cli: await maker.token({ claims: { sub: 'cli' } }),
  };

  const sdk = new Client({ name: 'c', version: '1' });
  const requestInit = { headers: { 'x-api-key': shown.sdk } };
  await sdk.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));
  const raw = mesh.caller('b', shown.raw);
  await using home = await temporaryFolder();
  const inspector = async (tool: string, input: JsonObject): Promise<JsonObject> => {
    const sent = Object.entries(input).flatMap(([name, value]) => [
      '--tool-arg',
      `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
    ]);
    const target = ['--server-url', url, '--transport', 'http', '--header', `Authorization: Bearer ${shown.cli}`];
    const { stdout } = await execa(
      'mcp-inspector',
      ['--cli', ...target, '--method', 'tools/call', '--tool-name', tool, ...sent, '--format', 'json', '-q'],
      { preferLocal: true, localDir: ROOT, env: { PATH: process.env['PATH']!, HOME: home.path }, extendEnv: false },
    );
    return (JSON.parse(stdout) as { result: { structuredContent: JsonObject } }).result.structuredContent;
  };
  const clients: Record<string, (tool: string, input: JsonObject) => Promise<JsonObject>> = {
    sdk: async (name, input) => (await sdk.callTool({ name, arguments: input })).structuredContent as JsonObject,
    raw: async (name, input) => (await raw.call(name, input)).output,
    cli: inspector,
  };
  const whose = { sdk: 'key:ben', raw: `jwt:${ISSUER}#raw`, cli: `jwt:${ISSUER}#cli` };
  try {
    for (const [name, call] of Object.entries(clients)) {
      expect(await call('workflow_submit', submission(`same-${name}`))).toMatchObject({ success: true });
      const ended = await eventually(`that of ${name} has ended`, async () => {
        const output = await call('workflow_result', { workflow_id: `same-${name}` });
        return output['status'] === 'completed' && output;
      });
      expect(ended).toMatchObject({ success: true });
    }
    for (const [name, call] of Object.entries(clients)) {
      const { workflows } = (await call('workflow_list', { tag_filter: [], limit: 200 })) as unknown as {
        workflows: { workflow_id: string; submitted_by: string }[];
      };
      expect(new Set(workflows.map(({ submitted_by }) => submitted_by))).toEqual(
        new Set([whose[name as keyof typeof whose]]),
      );
      expect(workflows.filter(({ workflow_id }) => workflow_id.startsWith('same-'))).toHaveLength(1);
    }
  } finally {
    await sdk.close();
  }
});
