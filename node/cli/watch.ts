/**
 * Follows a workflow to its end: a picture that is redrawn where stderr is a terminal, a line per change elsewhere.
 * Progress goes to stderr and the result to stdout, so that the result can be piped while the progress is seen.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { JsonObject } from '../../dag/errors.ts';
import { duration, paint, status as statusText, time } from './cells.ts';
import type { PeerClient } from './client.ts';
import { EXIT, EXIT_INTERRUPTED } from './exit.ts';
import { shortPeerId } from './render.ts';
import { onStopSignal } from './signals.ts';

const POLL_MS = 200;
/** Runs of many steps are asked for less often: each answer has every step. */
const POLL_LARGE_MS = 1_000;
const LARGE_STEPS_MIN = 500;
/** Lines of a frame that are not steps, and one that stays free so that the terminal does not scroll. */
const FRAME_LINES = 4;
const ENDED = new Set(['completed', 'failed', 'cancelled']);

/** The part of `workflow_status` that is shown. */
export interface ShownRun {
  workflow_id: string;
  name: string;
  status: string;
  progress: number;
  steps_total: number;
  steps_ended: number;
  start_time: string | null;
  end_time: string | null;
  error: { code: string; message: string } | null;
  steps?: ShownStep[];
}

interface ShownStep {
  step_id: string;
  action: string;
  status: string;
  reason: string | null;
  started_at: string | null;
  ended_at: string | null;
  error: { code: string; message: string } | null;
  tasks: number;
  peers: string[] | null;
}

/** @returns the exit code: done when the workflow completed */
export async function watchWorkflow(client: PeerClient, workflowId: string, json: boolean): Promise<number> {
  const stopped = new AbortController();
  const restore = onStopSignal(() => stopped.abort());
  const view = await createView();
  const names = new PeerNames(client);
  try {
    for (;;) {
      const run = (await client.call('workflow_status', { workflow_id: workflowId })) as unknown as ShownRun;
      await names.learn(run.steps?.flatMap((step) => step.peers ?? []) ?? []);
      view.show(run, (peer) => names.of(peer));
      if (ENDED.has(run.status)) break;
      const pause = run.steps_total >= LARGE_STEPS_MIN ? POLL_LARGE_MS : POLL_MS;
      // Rejects when the watching was stopped: the check below tells.
      await delay(pause, undefined, { signal: stopped.signal }).catch(() => undefined);
      if (stopped.signal.aborted) {
        view.end();
        process.stderr.write(`\n${goesOn(workflowId)}\n`);
        return EXIT_INTERRUPTED;
      }
    }
    view.end();
    return await printResult(client, workflowId, json);
  } catch (error) {
    view.end();
    process.stderr.write(`${goesOn(workflowId)}\n`);
    throw error;
  } finally {
    restore();
  }
}

function goesOn(workflowId: string): string {
  return `No longer watching; the workflow goes on in the mesh. Come back with: flowmesh workflow status ${workflowId} --watch`;
}

async function printResult(client: PeerClient, workflowId: string, json: boolean): Promise<number> {
  const output = await client.call('workflow_result', { workflow_id: workflowId, include_outputs: false });
  const completed = output['status'] === 'completed';
  if (json) process.stdout.write(`${JSON.stringify(output, null, 2)}\n`);
  else if (completed) process.stdout.write(`${JSON.stringify(output['result'], null, 2)}\n`);
  else {
    const error = output['error'] as JsonObject | null;
    const why = error === null ? '' : `: ${error['code']} ${error['message']}`;
    process.stderr.write(`${paint('red', `${workflowId} ${output['status']}${why}`, process.stderr)}\n`);
  }
  return completed ? EXIT.done : EXIT.failed;
}

interface View {
  show(run: ShownRun, nameOf: (peer: string) => string): void;
  /** What was shown last stays. */
  end(): void;
}

async function createView(): Promise<View> {
  if (!process.stderr.isTTY) return plainView((line) => process.stderr.write(`${line}\n`));
  const { createLogUpdate } = await import('log-update');
  const draw = createLogUpdate(process.stderr);
  return {
    show(run, nameOf) {
      draw(renderRun(run, nameOf, process.stderr.rows ?? 24));
    },
    end: () => draw.done(),
  };
}

/** A line for each change of a step or of the run: `14:03:22  count  completed on peer-1, peer-3 (5 tasks, 1.2 s)`. */
export function plainView(write: (line: string) => void): View {
  const shown = new Map<string, string>();
  return {
    show(run, nameOf) {
      for (const step of run.steps ?? []) {
        if (step.status === 'pending') continue;
        const where = step.peers === null || step.peers.length === 0 ? '' : ` on ${step.peers.map(nameOf).join(', ')}`;
        // Peers are told as they come; tasks only at the end, or a wide step would be a line per task.
        if (shown.get(step.step_id) === step.status + where) continue;
        shown.set(step.step_id, step.status + where);
        const after = [step.ended_at === null ? '' : figures(step), why(run, step)].filter(Boolean).join(' ');
        write(`${stamp(step)}  ${step.step_id}  ${statusText(step.status, process.stderr)}${where} ${after}`.trimEnd());
      }
      if (ENDED.has(run.status)) write(`${time(new Date().toISOString())}  ${headline(run)}`);
    },
    end() {},
  };
}

function stamp(step: ShownStep): string {
  return time(step.ended_at ?? step.started_at ?? new Date().toISOString());
}

/** The run as a picture of at most `rows` lines. */
export function renderRun(run: ShownRun, nameOf: (peer: string) => string, rows: number): string {
  const steps = run.steps ?? [];
  const visible = choose(steps, Math.max(1, rows - FRAME_LINES));
  const idWidth = Math.max(0, ...visible.map((step) => step.step_id.length));
  const actionWidth = Math.max(0, ...visible.map((step) => step.action.length));
  const lines = visible.map((step) => {
    const peers = (step.peers ?? []).map(nameOf).join(', ');
    const text = [
      mark(step.status),
      step.step_id.padEnd(idWidth),
      paint('dim', step.action.padEnd(actionWidth), process.stderr),
      figures(step),
      peers,
      why(run, step),
    ];
    return `  ${text.filter((part) => part !== '').join('  ')}`;
  });
  const hidden = steps.length - visible.length;
  if (hidden > 0) lines.push(paint('dim', `    and ${hidden} more`, process.stderr));
  return [headline(run), ...lines].join('\n');
}

/** What runs or failed first, then what ended last; in the order of the definition. */
function choose(steps: ShownStep[], most: number): ShownStep[] {
  if (steps.length <= most) return steps;
  const rank = (step: ShownStep) =>
    ['running', 'input_required', 'failed'].includes(step.status) ? 2 : step.ended_at ? 1 : 0;
  const ranked = [...steps].sort((a, b) => rank(b) - rank(a) || (b.ended_at ?? '').localeCompare(a.ended_at ?? ''));
  const chosen = new Set(ranked.slice(0, most));
  return steps.filter((step) => chosen.has(step));
}

function headline(run: ShownRun): string {
  const parts = [
    paint('bold', run.name, process.stderr),
    statusText(run.status, process.stderr),
    `${run.steps_ended} of ${run.steps_total} steps`,
    `${Math.floor(run.progress)} %`,
    run.start_time === null ? '' : elapsed(run.start_time, run.end_time),
    paint('dim', run.workflow_id, process.stderr),
  ];
  return parts.filter((part) => part !== '').join('  ');
}

/** Nothing for a step that ended without having started: it was skipped or cancelled. */
function figures(step: ShownStep): string {
  if (step.started_at === null) return '';
  const tasks = step.tasks > 1 ? `${step.tasks} tasks, ` : '';
  return `(${tasks}${elapsed(step.started_at, step.ended_at)})`;
}

function why(run: ShownRun, step: ShownStep): string {
  if (step.status === 'input_required') {
    const command = `flowmesh task answer ${run.workflow_id}:${step.step_id} --approve`;
    const question = step.reason === null ? 'waits for a person' : `asks: ${step.reason.replace(/\s+/g, ' ')}`;
    return paint('yellow', `${question}  (${command})`, process.stderr);
  }
  if (step.error !== null) return paint('red', `${step.error.code}: ${step.error.message}`, process.stderr);
  return step.reason === null ? '' : paint('dim', step.reason, process.stderr);
}

/** Between two wall times of one peer; a peer whose clock is ahead of ours has run for no time yet. */
function elapsed(start: string, end: string | null): string {
  return duration(Math.max(0, (end === null ? Date.now() : Date.parse(end)) - Date.parse(start)));
}

const MARKS: Record<string, string> = {
  completed: paint('green', '✔', process.stderr),
  failed: paint('red', '✘', process.stderr),
  running: paint('cyan', '▸', process.stderr),
  input_required: paint('yellow', '?', process.stderr),
  skipped: paint('dim', '↷', process.stderr),
  cancelled: paint('dim', '✘', process.stderr),
};

function mark(status: string): string {
  return MARKS[status] ?? paint('dim', '·', process.stderr);
}

/** Names of peers, asked for when an unknown one appears; each only once. */
class PeerNames {
  readonly #client: PeerClient;
  readonly #names = new Map<string, string>();

  constructor(client: PeerClient) {
    this.#client = client;
  }

  async learn(peers: string[]): Promise<void> {
    const unknown = peers.filter((peer) => !this.#names.has(peer));
    if (unknown.length === 0) return;
    for (const peer of unknown) this.#names.set(peer, shortPeerId(peer));
    try {
      const [self, list] = await Promise.all([this.#client.status(), this.#client.call('peer_list', { limit: 1_000 })]);
      for (const { peer_id, name } of [self, ...(list['peers'] as JsonObject[])]) {
        if (typeof peer_id === 'string' && typeof name === 'string') this.#names.set(peer_id, name);
      }
    } catch {
      // Short ids do as well; what really is wrong shows at the next status.
    }
  }

  of(peer: string): string {
    return this.#names.get(peer) ?? shortPeerId(peer);
  }
}
