/**
 * A run as people watch it: a picture of at most one screen, or a line for each thing that happened.
 *
 *   word-count  running  1 of 2 steps  61 %  2.3 s  wf-1
 *                                     ada  ben
 *     ▸ count  shell  12/20, 1 failed   7    6  (2.3 s)
 *         item 3 failed on ben  EXIT_CODE: wc ended with 1
 *         flowmesh task status wf-1:count:3 --include-logs
 */
import sliceAnsi from 'slice-ansi';
import stringWidth from 'string-width';
import type { ShownStep as PublishedStep } from '../../tools/workflow/steps.ts';
import { printable } from '../printable.ts';
import { duration, paint, type Style, status as statusText, time } from './cells.ts';

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

export type ShownStep = PublishedStep;

export interface View {
  show(run: ShownRun, nameOf: NameOf): void;
  /** What was shown last stays. */
  end(): void;
}

type NameOf = (peer: string) => string;

const ENDED = new Set(['completed', 'failed', 'cancelled']);
export const hasEnded = (run: Pick<ShownRun, 'status'>) => ENDED.has(run.status);

/** The headline, the names of the peers, how many steps are left out, and a line that stays free for the cursor. */
const FRAME_LINES = 4;
/** With more peers than this a step says how many tasks each ran instead. */
const PEER_COLUMNS_MAX = 8;
/** Of the width, for the columns of the peers. */
const PEER_COLUMNS_SHARE = 0.5;
const NAME_CHARS_MIN = 8;
const NOTE_INDENT = '      ';
const GAP = '  ';

const dim = (text: string) => paint('dim', text, process.stderr);

// --- a line for each thing that happened

/** `14:03:22  count  completed on ada 7, ben 13 (20 tasks, 1.2 s)`, in the order of what happened. */
export function plainView(write: (line: string) => void): View {
  const told = new Map<string, Set<string>>();
  let headlineTold = false;
  let latest = '';
  return {
    show(run, nameOf) {
      const events: { at: string; text: string }[] = [];
      for (const step of run.steps ?? []) {
        const known = told.get(step.step_id) ?? new Set();
        told.set(step.step_id, known);
        for (const { key, at, text } of eventsOf(run, step, nameOf)) {
          if (!known.has(key)) events.push({ at, text: `${step.step_id}  ${text}` });
          known.add(key);
        }
      }
      events.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
      for (const { at, text } of events) {
        // Of some things it is learnt late, as that a step began whose first attempt had failed by then.
        if (at > latest) latest = at;
        write(`${time(latest)}  ${text}`);
      }
      if (hasEnded(run) && !headlineTold) write(`${time(run.end_time ?? now())}  ${headline(run)}`);
      headlineTold = hasEnded(run);
    },
    end() {},
  };
}

/** What is told of in other words, or is how every run goes. */
const ORDINARY_WAITS = new Set(['steps', 'tasks', 'person', 'time']);

/** What can be told of a step now; the same thing has the same key each time. */
function* eventsOf(
  run: ShownRun,
  step: ShownStep,
  nameOf: NameOf,
): Iterable<{ key: string; at: string; text: string }> {
  const { retrying, failed_task, error } = step;
  const isEnded = step.ended_at !== null;
  const waits = waitOf(step);
  if (waits !== null && !isEnded && !ORDINARY_WAITS.has(step.waiting!.for)) {
    // How many are before it changes all the time: that is no news.
    yield { key: `waits ${waits.replace(/\d+/g, '#')}`, at: now(), text: dim(waits) };
  }
  const where = step.peers === null ? '' : placesOf(step, nameOf, isEnded);
  if (step.status === 'running' && waits === null) {
    const items = step.items === undefined ? '' : ` (${step.items.total} items)`;
    yield { key: 'running', at: step.started_at ?? now(), text: `${state(step.status)}${where}${items}` };
  }
  if (step.status === 'input_required') yield { key: 'asks', at: now(), text: questionOf(run, step).join(GAP) };
  if (retrying !== undefined && !isEnded) {
    yield { key: `retry ${retrying.task_id} ${retrying.attempt}`, at: now(), text: retryOf(step) };
  }
  if (failed_task !== undefined && step.items !== undefined) {
    yield { key: 'failed', at: step.ended_at ?? now(), text: failureOf(step, nameOf).join(GAP) };
  }
  if (!isEnded) return;
  const told = error === null ? (step.reason === null ? '' : printable(step.reason)) : errorText(error);
  const look = failed_task === undefined || step.items !== undefined ? '' : dim(lookAt(failed_task.task_id));
  const parts = [`${state(step.status)}${where} ${figures(step)}`.trimEnd(), told].filter(Boolean).join(' ');
  yield { key: 'ended', at: step.ended_at!, text: [parts, look].filter(Boolean).join(GAP) };
}

function placesOf(step: ShownStep, nameOf: NameOf, isEnded: boolean): string {
  if (isEnded && step.items !== undefined && step.items.by_peer.length > 0) {
    return ` on ${step.items.by_peer.map(({ peer_id, tasks }) => `${nameOf(peer_id)} ${tasks}`).join(', ')}`;
  }
  return step.peers === null || step.peers.length === 0 ? '' : ` on ${step.peers.map(nameOf).join(', ')}`;
}

// --- a picture

/** The run as a picture that fits a terminal; ids are whole, other text is cut at the edge. */
export function renderRun(run: ShownRun, nameOf: NameOf, { rows, columns }: { rows: number; columns: number }): string {
  const steps = run.steps ?? [];
  const peers = peerColumns(steps, nameOf, columns);
  const widths = leftWidths(steps);
  const blockOf = (step: ShownStep) => linesOf(run, step, { widths, peers, nameOf, columns });
  const lines = [headline(run, columns)];
  const room = rows - FRAME_LINES - (heightOf(lines, columns) - 1);
  const shown = choose(steps, (step) => heightOf(blockOf(step), columns), Math.max(1, room));
  if (peers.length > 0 && shown.length > 0) lines.push(cut(peerHeader(widths, peers), columns));
  for (const step of shown) lines.push(...blockOf(step));
  const hidden = steps.length - shown.length;
  if (hidden > 0) lines.push(dim(`    and ${hidden} more`));
  return lines.join('\n');
}

interface PeerColumn {
  peer_id: string;
  name: string;
}

/** None where no step is a fan-out, or there is no room for them. */
function peerColumns(steps: ShownStep[], nameOf: NameOf, columns: number): PeerColumn[] {
  if (!steps.some(({ items }) => items !== undefined)) return [];
  const ids = new Set(steps.flatMap((step) => [...(step.peers ?? []), ...(step.items?.by_peer ?? []).map(peerOf)]));
  const peers = [...ids].map((peer_id) => ({ peer_id, name: nameOf(peer_id) }));
  peers.sort((a, b) => (a.name < b.name ? -1 : 1));
  const width = peers.reduce((sum, { name }) => sum + columnWidth(name), 0);
  return peers.length > PEER_COLUMNS_MAX || width > columns * PEER_COLUMNS_SHARE ? [] : peers;
}

const peerOf = ({ peer_id }: { peer_id: string }) => peer_id;
const COUNT_CHARS_MIN = 4;
const columnWidth = (name: string) => Math.max(COUNT_CHARS_MIN, stringWidth(name)) + GAP.length;

/** Of the step's id, its action and its counts; 0 where no step has any. */
type LeftWidths = [number, number, number];

function leftWidths(steps: ShownStep[]): LeftWidths {
  const widest = (text: (step: ShownStep) => string) => Math.max(0, ...steps.map((step) => stringWidth(text(step))));
  return [widest(({ step_id }) => step_id), widest(({ action }) => action), widest(countsOf)];
}

function peerHeader(widths: LeftWidths, peers: PeerColumn[]): string {
  const left = widths.filter((width) => width > 0);
  const indent = GAP.length + 1 + left.reduce((sum, width) => sum + GAP.length + width, 0);
  return dim(' '.repeat(indent) + peers.map(({ name }) => padded(name, columnWidth(name), 'start')).join(''));
}

function linesOf(
  run: ShownRun,
  step: ShownStep,
  { widths, peers, nameOf, columns }: { widths: LeftWidths; peers: PeerColumn[]; nameOf: NameOf; columns: number },
): string[] {
  const [idWidth, actionWidth, countsWidth] = widths;
  const parts = [mark(step.status), padded(step.step_id, idWidth), dim(padded(printable(step.action), actionWidth))];
  if (countsWidth > 0) parts.push(padded(countsOf(step), countsWidth, 'start'));
  const left = GAP + parts.join(GAP);
  const counts = peers.map(({ peer_id, name }) => padded(tasksAt(step, peer_id), columnWidth(name), 'start')).join('');
  const where = peers.length > 0 ? '' : placesOf(step, nameOf, true).replace(/^ on /, '');
  const { line, notes } = saidOf(run, step, nameOf);
  const right = [figures(step), where, line].filter((part) => part !== '').join(GAP);
  const idEnd = stringWidth(GAP + parts.slice(0, 2).join(GAP));
  const lines = notes.map((note) => NOTE_INDENT + note);
  const first = cut(`${left}${counts}${GAP}${right}`.trimEnd(), Math.max(columns, idEnd + 1));
  return [first, ...lines.map((text) => (isCommand(text) ? text : cut(text, columns)))];
}

/** What stands behind the figures of a step, and the lines below it. */
function saidOf(run: ShownRun, step: ShownStep, nameOf: NameOf): { line: string; notes: string[] } {
  if (step.status === 'input_required') {
    const [question, command] = questionOf(run, step);
    return { line: question, notes: [command] };
  }
  const notes = step.failed_task === undefined ? [] : failureOf(step, nameOf);
  if (step.retrying !== undefined && step.ended_at === null) return { line: retryOf(step), notes };
  const waits = waitOf(step);
  if (waits !== null && step.ended_at === null) return { line: dim(waits), notes };
  if (step.error !== null) return { line: errorText(step.error), notes };
  return { line: step.reason === null ? '' : dim(printable(step.reason)), notes };
}

const COMMAND = 'flowmesh ';
const isCommand = (text: string) => text.includes(COMMAND);

function heightOf(lines: string[], columns: number): number {
  return lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(stringWidth(line) / columns)), 0);
}

/** What runs or failed first, then what ended last; in the order of the definition. */
function choose(steps: ShownStep[], heightOfStep: (step: ShownStep) => number, most: number): ShownStep[] {
  const rank = (step: ShownStep) =>
    ['running', 'input_required', 'failed'].includes(step.status) ? 2 : step.ended_at ? 1 : 0;
  const fits = steps.length <= most && steps.reduce((sum, step) => sum + heightOfStep(step), 0) <= most;
  if (fits) return steps;
  const ranked = [...steps].sort((a, b) => rank(b) - rank(a) || (b.ended_at ?? '').localeCompare(a.ended_at ?? ''));
  const chosen = new Set<ShownStep>();
  let height = 0;
  for (const step of ranked.slice(0, most)) {
    height += heightOfStep(step);
    if (height > most && chosen.size > 0) break;
    chosen.add(step);
  }
  return steps.filter((step) => chosen.has(step));
}

// --- the words of both

/** In a narrow terminal the name is cut, never the id. */
function headline(run: ShownRun, columns = Number.POSITIVE_INFINITY): string {
  const parts = [
    state(run.status),
    `${run.steps_ended} of ${run.steps_total} steps`,
    `${Math.floor(run.progress)} %`,
    run.start_time === null ? '' : elapsed(run.start_time, run.end_time),
    dim(run.workflow_id),
  ];
  const facts = parts.filter((part) => part !== '').join(GAP);
  const room = Math.max(NAME_CHARS_MIN, columns - stringWidth(GAP + facts));
  return paint('bold', cut(printable(run.name), room), process.stderr) + GAP + facts;
}

/** `12/20, 1 failed` of a fan-out. */
function countsOf({ items }: ShownStep): string {
  if (items === undefined) return '';
  const others = (['failed', 'skipped'] as const)
    .filter((how) => items[how] > 0)
    .map((how) => `, ${items[how]} ${how}`);
  return `${items.completed}/${items.total}${others.join('')}`;
}

function tasksAt(step: ShownStep, peer: string): string {
  if (step.items === undefined) return step.peers?.includes(peer) ? '1' : '·';
  return String(step.items.by_peer.find(({ peer_id }) => peer_id === peer)?.tasks ?? '·');
}

/** Nothing for a step that ended without having started: it was skipped or cancelled. */
function figures(step: ShownStep): string {
  if (step.started_at === null) return '';
  const tasks = step.tasks > 1 ? `${step.tasks} tasks, ` : '';
  return `(${tasks}${elapsed(step.started_at, step.ended_at)})`;
}

/** `item 3, attempt 2 of 4 in 3.2 s  EXIT_CODE: …`. */
function retryOf({ retrying }: ShownStep): string {
  const { index, attempt, attempts_max, next_at, error } = retrying!;
  const waitMs = next_at === null ? 0 : Date.parse(next_at) - Date.now();
  const when = waitMs <= 0 ? '' : ` in ${duration(waitMs)}, at ${time(next_at!)}`;
  const text = `${itemText(index)}attempt ${attempt} of ${attempts_max}${when}`;
  const why = error === null ? '' : `${GAP}after ${error.code}: ${error.message}`;
  return paint('yellow', printable(text + why), process.stderr);
}

/** What failed, and the command that shows the rest. */
function failureOf(step: ShownStep, nameOf: NameOf): string[] {
  const { index, peer_id, error, task_id } = step.failed_task!;
  const look = dim(lookAt(task_id));
  if (step.items === undefined) return [look];
  const where = peer_id === null ? '' : ` on ${nameOf(peer_id)}`;
  const why = error === null ? '' : `${GAP}${error.code}: ${error.message}`;
  return [paint('red', printable(`${itemText(index).replace(', ', ' ')}failed${where}${why}`), process.stderr), look];
}

const itemText = (index: number | null) => (index === null ? '' : `item ${index}, `);
const lookAt = (taskId: string) => `${COMMAND}task status ${taskId} --include-logs`;

function questionOf(run: ShownRun, step: ShownStep): [string, string] {
  const task = step.asking_task ?? `${run.workflow_id}:${step.step_id}`;
  const question = step.reason === null ? 'waits for a person' : `asks: ${printable(step.reason.replace(/\s+/g, ' '))}`;
  const yellow = (text: string) => paint('yellow', text, process.stderr);
  return [yellow(question), yellow(`${COMMAND}task answer ${task} --approve`)];
}

/** Why it has not begun. */
function waitOf(step: ShownStep): string | null {
  return step.waiting == null ? null : `waits: ${printable(step.waiting.reason)}`;
}

function errorText({ code, message }: { code: string; message: string }): string {
  return paint('red', printable(`${code}: ${message}`), process.stderr);
}

/** Between two wall times of one peer; a peer whose clock is ahead of ours has run for no time yet. */
function elapsed(start: string, end: string | null): string {
  return duration(Math.max(0, (end === null ? Date.now() : Date.parse(end)) - Date.parse(start)));
}

function now(): string {
  return new Date().toISOString();
}

function state(status: string): string {
  return statusText(status, process.stderr);
}

function padded(text: string, width: number, at: 'start' | 'end' = 'end'): string {
  const blanks = ' '.repeat(Math.max(0, width - stringWidth(text)));
  return at === 'start' ? blanks + text : text + blanks;
}

function cut(text: string, columns: number): string {
  return stringWidth(text) <= columns ? text : `${sliceAnsi(text, 0, columns - 1)}…`;
}

const MARKS: Record<string, [Style, string]> = {
  completed: ['green', '✔'],
  failed: ['red', '✘'],
  running: ['cyan', '▸'],
  input_required: ['yellow', '?'],
  skipped: ['dim', '↷'],
  cancelled: ['dim', '✘'],
};

function mark(status: string): string {
  const [style, sign] = MARKS[status] ?? ['dim', '·'];
  return paint(style, sign, process.stderr);
}
