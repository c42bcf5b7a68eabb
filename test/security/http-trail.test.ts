/** What the trail of a peer says of those who call it over HTTP. */
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { verifyTrail } from '../../node/audit/verify.ts';
import { readLines } from '../audit/trail-folder.ts';
import { HttpPeers } from './http-peer.ts';

let mesh: HttpPeers;
let key: string;

beforeAll(async () => {
  mesh = await HttpPeers.of(['a']);
  key = await mesh.key('ci', { role: 'user' });
});
afterAll(() => mesh?.[Symbol.asyncDispose]());

const folder = () => join(mesh.peer('a').config.data_dir, 'audit');

async function linesOf(work: () => Promise<unknown>): Promise<Record<string, unknown>[]> {
  return (await mesh.trailOf('a', work)).lines;
}

it('a call leaves one line: who, from where, in which session, which tool, on which record, and what came of it', async () => {
  const caller = mesh.caller('a', key);
  await caller.initialize();
  const lines = await linesOf(async () => {
    await caller.call('task_submit', { task_id: 'known', task_type: 'echo', payload: { secret: 'of the payload' } });
    await caller.call('task_status', { task_id: 'known' });
    await caller.call('task_status', { task_id: 'unknown' });
    await caller.call('queue_clear', {});
    await caller.post('/tasks/known/answer', { approve: true, data: 'of the answer' });
  });
  const call = { event: 'call', who: { id: 'key:ci' }, from: '127.0.0.1' };
  const session = expect.stringMatching(/^[0-9a-f]{8}$/);
  expect(lines).toMatchObject([
    { ...call, session, tool: 'task_submit', on: { kind: 'task', id: 'known' }, outcome: 'ok' },
    { ...call, session, tool: 'task_status', on: { kind: 'task', id: 'known' }, outcome: 'ok' },
    { ...call, session, tool: 'task_status', on: { kind: 'task', id: 'unknown' }, outcome: 'NOT_FOUND' },
    { ...call, session, tool: 'queue_clear', outcome: 'FORBIDDEN' },
    { ...call, tool: 'task_answer', on: { kind: 'task', id: 'known' }, outcome: expect.stringMatching(/^[A-Z_]+$/) },
  ]);
});

it('a request that is refused leaves one line, with who it is where that is known', async () => {
  const lines = await linesOf(async () => {
    await mesh.caller('a').post('/mcp', {});
    await mesh.caller('a', 'fmk1_nobody').get('/ready?access_token=of-the-query');
    await mesh.caller('a', key).get('/nowhere');
    await mesh.caller('a', key).post('/drain');
    await mesh.caller('a', { host: 'evil.example.org' }).get('/ready');
    await mesh.caller('a', key).post('/mcp', { jsonrpc: '2.0', id: 1, method: 'tools/list' });
    await mesh.caller('a', key).post('/mesh/members');
    const socket = connect(Number(new URL(mesh.peer('a').http_url!).port), '127.0.0.1');
    socket.write('this is no request\r\n\r\n');
    await text(socket);
  });
  const told = lines.map(({ who, from, route, outcome }) => [
    (who as { id: string } | undefined)?.id,
    from,
    route,
    outcome,
  ]);
  expect(told).toEqual([
    [undefined, '127.0.0.1', 'POST /mcp', 'TOKEN_REQUIRED'],
    [undefined, '127.0.0.1', 'GET /ready', 'TOKEN_IN_QUERY'],
    ['key:ci', '127.0.0.1', 'GET /nowhere', 'NOT_FOUND'],
    ['key:ci', '127.0.0.1', 'POST /drain', 'FORBIDDEN'],
    [undefined, '127.0.0.1', 'GET /ready', 'FORBIDDEN_HOST'],
    ['key:ci', '127.0.0.1', 'POST /mcp', 'SESSION_REQUIRED'],
    ['key:ci', '127.0.0.1', 'POST /mesh/members', 'UNAUTHORIZED'],
    [undefined, '127.0.0.1', undefined, 'MALFORMED_REQUEST'],
  ]);
  expect(lines.every(({ event }) => event === 'refused')).toBe(true);
});

it('what an admin changes leaves a line, and what one asks does not', async () => {
  const admin = mesh.caller('a', mesh.peer('a').admin_key);
  const lines = await linesOf(async () => {
    await admin.post('/mesh/key_create', { name: 'short', role: 'user' });
    await admin.post('/mesh/keys');
    await admin.post('/mesh/key_revoke', { name: 'short', reason: 'of the reason' });
    await admin.post('/mesh/revoke', { target: 'nobody' });
  });
  const change = { event: 'change', who: expect.anything(), from: '127.0.0.1' };
  expect(lines).toMatchObject([
    { ...change, route: 'key_create', on: { kind: 'key', id: 'short' }, outcome: 'ok' },
    { ...change, route: 'key_revoke', on: { kind: 'key', id: 'short' }, outcome: 'ok' },
    { ...change, route: 'revoke', on: { kind: 'member', id: 'nobody' }, outcome: expect.stringMatching(/^[A-Z_]+$/) },
  ]);
});

it('no key, token or payload is in it, and it fits together', async () => {
  const everything = JSON.stringify(await readLines(folder()));
  expect(everything).not.toMatch(/of the payload|of the answer|of-the-query|of the reason|fmk1_/);
  expect(everything).not.toContain(mesh.peer('a').admin_key);
  expect((await verifyTrail(folder())).problem).toBeNull();
});
