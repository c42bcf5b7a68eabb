import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../node/log.ts';
import { type Listener, startListener } from '../../node/mcp/listener.ts';
import { EchoRouter, echoTools, INFO } from './echo-router.ts';

let router: EchoRouter;
let listener: Listener;

beforeEach(async () => {
  router = new EchoRouter();
  listener = await startListener({
    router,
    host: '127.0.0.1',
    port: 0,
    info: INFO,
    log: silentLog,
    tools: echoTools,
  });
});
afterEach(() => listener.close());

async function answer(task: string, body: string, type = 'application/json') {
  const response = await fetch(`${listener.url}/tasks/${task}/answer`, {
    method: 'POST',
    headers: { 'content-type': type },
    body,
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

describe('GET /health', () => {
  it('says who answers, whether the peer is ready or not', async () => {
    router.ready = false;
    const response = await fetch(`${listener.url}/health?probe=1`);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ status: 'ok', ...INFO });
    expect((await fetch(`${listener.url}/health`, { method: 'HEAD' })).status).toBe(200);
    expect((await fetch(`${listener.url}/health`, { method: 'DELETE' })).status).toBe(405);
  });
});

describe('GET /ready', () => {
  it('is 200 when the router is ready', async () => {
    const response = await fetch(`${listener.url}/ready`);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ ready: true, peer_id: INFO.peer_id, connected_peers: 2 });
  });

  it('is 503 with the reasons when it is not', async () => {
    router.ready = false;
    const response = await fetch(`${listener.url}/ready`);
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ ready: false, reasons: ['the store is opening'] });
  });

  it('is 503 when the router cannot be asked', async () => {
    router.status = () => Promise.reject(new Error('the loop crashed'));
    const response = await fetch(`${listener.url}/ready`);
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({
      ready: false,
      reasons: [expect.stringContaining('the loop crashed')],
    });
  });
});

describe('POST /tasks/:task_id/answer', () => {
  it('hands the answer to the router', async () => {
    expect(await answer('wf-1%3Areview', '{"approve": true, "data": {"note": "fine"}}')).toEqual({
      status: 200,
      body: { success: true, task_id: 'wf-1:review', approved: true },
    });
    expect(await answer('t2', '{"approve": false}')).toMatchObject({ status: 200, body: { approved: false } });
    expect(router.answers).toEqual([
      { task_id: 'wf-1:review', answer: { approve: true, data: { note: 'fine' } } },
      { task_id: 't2', answer: { approve: false, data: null } },
    ]);
  });

  it.each([
    ['t', '{"approve": "yes"}', 400, 'INVALID_INPUT'],
    ['t', '{}', 400, 'INVALID_INPUT'],
    ['t', '{"approve": true, "comment": "x"}', 400, 'INVALID_INPUT'],
    ['t', '[]', 400, 'INVALID_INPUT'],
    ['t', '{"approve": tru', 400, 'PARSE_ERROR'],
    ['%E0%A4%A', '{"approve": true}', 400, 'INVALID_INPUT'],
    ['unknown', '{"approve": true}', 404, 'NOT_FOUND'],
    ['ended', '{"approve": true}', 409, 'INVALID_STATE'],
  ])('task %s with %s is %i %s', async (task, body, status, code) => {
    const refused = await answer(task, body);
    expect(refused).toMatchObject({ status, body: { success: false, error: { code, retryable: false } } });
    expect(router.answers).toEqual([]);
  });

  it('takes only JSON, so that a form on a web page cannot answer', async () => {
    expect(await answer('t', '{"approve": true}', 'text/plain')).toMatchObject({ status: 415 });
    expect(router.answers).toEqual([]);
  });
});

it('any other path is 404 with the routes that exist', async () => {
  const response = await fetch(`${listener.url}/sse`);
  expect(response.status).toBe(404);
  expect(await response.json()).toMatchObject({
    error: { code: 'NOT_FOUND', message: expect.stringContaining('/mcp') },
  });
});
