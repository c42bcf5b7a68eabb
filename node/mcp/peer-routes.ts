/**
 * The plain HTTP routes of a peer: `/health` (the process answers), `/ready` (it can take work), the answer of a person
 * to a task that waits for one, `/drain` (it is to stop when what runs there has ended), and what its own user asks of
 * the mesh under `/mesh`.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { z } from 'zod';
import { type ErrorShape, errorShape, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import { DURATION_MS_MAX } from '../../dag/limits.ts';
import { cut } from '../../dag/quoted.ts';
import { NotPermittedError, permits } from '../../tools/permissions.ts';
import { nameOf, type Trail } from '../audit/trail.ts';
import type { Principal } from '../auth/principal.ts';
import { MESH_REQUESTS, type MeshRequest } from '../membership/requests.ts';
import type { RouterStatus, ToolRouter } from '../runtimes/router.ts';
import { HttpRefusal, readJson, sendJson } from './http-exchange.ts';
import { ANSWER_BYTES_MAX, CONTROL_BYTES_MAX, CONTROL_TIMEOUT_MS, READY_DEADLINE_MS } from './limits.ts';
import type { PeerInfo } from './session.ts';

/** What admins ask and nothing changes by. */
const READING_REQUESTS: ReadonlySet<MeshRequest> = new Set(['members', 'invites', 'keys', 'doctor']);

const ROUTES = 'POST|GET|DELETE /mcp, GET /health, GET /ready, POST /tasks/<task_id>/answer, POST /drain';

export interface PeerRouteComponents {
  router: Pick<ToolRouter, 'status' | 'answerTask'>;
  info: PeerInfo;
  /** Begins to drain the peer and then stops it. Absent where nobody would stop it. */
  onDrain?: ((waitMs: number | undefined) => void) | undefined;
  /** What the user of this peer may ask about its mesh. */
  admin?: AdminRoutes | undefined;
  /** Told of what is changed here. */
  trail?: Trail | undefined;
  /** Who asks. */
  principal: Principal;
}

export interface AdminRoutes {
  /** Whoever can read the peer's data folder has it, and nobody else. */
  key: string;
  meshRequest(request: MeshRequest, input: unknown): Promise<JsonObject>;
}

/** @throws HttpRefusal 405 */
export function serveHealth(info: PeerInfo, request: IncomingMessage, response: ServerResponse): void {
  allow(request, 'GET');
  sendJson(request, response, 200, { status: 'ok', ...info });
}

/** @throws HttpRefusal 404 and 405 for what is no route, 403 for what the principal may not. */
export async function servePeerRoute(
  components: PeerRouteComponents,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (path === '/ready') {
    allow(request, 'GET');
    await serveReady(components, request, response);
  } else if (path === '/drain' && components.onDrain !== undefined) {
    allow(request, 'POST');
    mustBePermitted(components.principal, 'drain', 'peer:admin');
    await serveDrain(components, request, response);
    noteChange(components, 'drain', {}, 'ok');
  } else if (path.startsWith('/mesh/') && components.admin !== undefined) {
    allow(request, 'POST');
    await serveMesh(components, components.admin, path.slice('/mesh/'.length), request, response);
  } else {
    const answer = /^\/tasks\/([^/]+)\/answer$/.exec(path);
    if (answer === null) throw new HttpRefusal(404, 'NOT_FOUND', `No such route: ${cut(path)}. There are: ${ROUTES}`);
    allow(request, 'POST');
    await serveAnswer(components, decode(answer[1]!), request, response);
  }
}

async function serveReady(
  { router, info }: PeerRouteComponents,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const readiness = await readinessOf(router);
  sendJson(request, response, readiness.ready ? 200 : 503, { ...info, ...readiness });
}

type Readiness = Pick<RouterStatus, 'ready' | 'reasons'> & Partial<Pick<RouterStatus, 'mesh' | 'connected_peers'>>;

/** A router that does not answer is not ready, and whoever probes hears it in time. */
async function readinessOf(router: Pick<ToolRouter, 'status'>): Promise<Readiness> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`no answer within ${READY_DEADLINE_MS} ms`)), READY_DEADLINE_MS);
  try {
    const { ready, reasons, mesh, connected_peers } = await Promise.race([router.status(), late.promise]);
    return { ready, reasons, mesh, connected_peers };
  } catch (error) {
    return { ready: false, reasons: [`the router cannot be asked: ${errorShape(error).message}`] };
  } finally {
    clearTimeout(timer);
  }
}

const drainSchema = z.strictObject({
  timeout_ms: z.int('must be a whole number').min(0).max(DURATION_MS_MAX).optional(),
});

/** Answered when it has begun: the peer is gone when it is done. */
async function serveDrain(
  { info, onDrain }: PeerRouteComponents,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const parsed = drainSchema.safeParse(await readJson(request, response, CONTROL_BYTES_MAX, CONTROL_TIMEOUT_MS));
  if (!parsed.success) {
    throw new HttpRefusal(400, 'INVALID_INPUT', `May have timeout_ms: ${z.prettifyError(parsed.error)}`);
  }
  sendJson(request, response, 202, { status: 'draining', ...info });
  onDrain!(parsed.data.timeout_ms);
}

async function serveMesh(
  components: PeerRouteComponents,
  admin: AdminRoutes,
  asked: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // Not even what there is to ask is told to other users of this machine.
  if (!isAdmin(request, admin.key)) {
    throw new HttpRefusal(
      401,
      'UNAUTHORIZED',
      "Only the user of this peer may ask this: send the admin_key of peer.json in the peer's data folder as a bearer token.",
      { headers: { 'www-authenticate': 'Bearer' } },
    );
  }
  const wanted = MESH_REQUESTS.find((each) => each === asked);
  if (wanted === undefined)
    throw new HttpRefusal(404, 'NOT_FOUND', `There are /mesh/${MESH_REQUESTS.join(', /mesh/')}`);
  const input = await readJson(request, response, CONTROL_BYTES_MAX, CONTROL_TIMEOUT_MS);
  let outcome = 'ok';
  try {
    sendJson(request, response, 200, { success: true, ...(await admin.meshRequest(wanted, input)) });
  } catch (error) {
    const shape = errorShape(error);
    outcome = shape.code;
    sendJson(request, response, statusOf(shape), { success: false, error: shape });
  }
  if (!READING_REQUESTS.has(wanted)) noteChange(components, wanted, input, outcome);
}

/** Of keys, members and the peer itself. */
function noteChange({ trail, principal }: PeerRouteComponents, change: string, input: unknown, outcome: string): void {
  const { name, target } = (input ?? {}) as { name?: unknown; target?: unknown };
  const id = name ?? target;
  const on = typeof id === 'string' ? { kind: change.startsWith('key_') ? 'key' : 'member', id } : undefined;
  trail?.record({ event: 'change', ...nameOf(principal), route: change, on, outcome });
}

/** In constant time: the key is not to be guessed letter by letter. */
function isAdmin(request: IncomingMessage, key: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const given = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
  return timingSafeEqual(digest(given), digest(key));
}

const answerSchema = z.strictObject({
  approve: z.boolean('must be true or false'),
  // Already JSON: it came out of JSON.parse.
  data: z.unknown().default(null),
});

async function serveAnswer(
  { router, principal }: PeerRouteComponents,
  taskId: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const parsed = answerSchema.safeParse(await readJson(request, response, ANSWER_BYTES_MAX));
  if (!parsed.success) {
    throw new HttpRefusal(
      400,
      'INVALID_INPUT',
      `The answer needs approve: true or false, and may have data: ${z.prettifyError(parsed.error)}`,
    );
  }
  const { approve, data } = parsed.data;
  try {
    sendJson(request, response, 200, await router.answerTask(taskId, { approve, data: data as JsonValue }, principal));
  } catch (error) {
    const shape = errorShape(error);
    sendJson(request, response, statusOf(shape), { success: false, error: shape });
  }
}

function mustBePermitted({ permissions }: Principal, what: string, permission: string): void {
  if (permits(permissions, permission)) return;
  throw new HttpRefusal(403, 'FORBIDDEN', new NotPermittedError(what, permission).message);
}

function statusOf(error: ErrorShape): number {
  if (error.code === 'FORBIDDEN') return 403;
  if (error.code === 'NOT_FOUND') return 404;
  if (error.code === 'INVALID_INPUT') return 400;
  if (error.code === 'INTERNAL') return 500;
  return error.retryable ? 503 : 409;
}

function allow(request: IncomingMessage, method: string): void {
  if (request.method === method || (method === 'GET' && request.method === 'HEAD')) return;
  throw new HttpRefusal(405, 'METHOD_NOT_ALLOWED', `${request.method} is not a method of this route, ${method} is`, {
    headers: { allow: method },
  });
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new HttpRefusal(400, 'INVALID_INPUT', `The task id in the path is not valid percent-encoding: ${cut(part)}`);
  }
}
