/**
 * Writes docs/limits.md, every limit of a peer, from where the limits are defined:
 *
 *   node docs/write-limits-page.ts
 *
 * A test fails while the committed page is not what this writes.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const LIMITS_PAGE = fileURLToPath(new URL('limits.md', import.meta.url));

const SOURCES = [
  { title: 'Workflows and their data', files: ['dag/limits.ts', 'dag/errors.ts'] },
  { title: 'Scheduler', files: ['scheduler/limits.ts'] },
  { title: 'Store', files: ['node/store/limits.ts'] },
  {
    title: 'Between peers',
    files: [
      'frames',
      'packed',
      'peer-stream',
      'handshake',
      'host',
      'known-peers',
      'discovery',
      'relay',
      'dht-store',
      'offer-rates',
    ].map((name) => `node/p2p/${name}.ts`),
  },
  { title: 'Members of a secured mesh', files: ['node/membership/limits.ts'] },
  { title: 'Who calls', files: ['node/auth/limits.ts'] },
  { title: 'MCP', files: ['node/mcp/limits.ts'] },
  { title: 'Callers that are asked who they are', files: ['node/config/limits.ts', 'node/throttle/limits.ts'] },
  { title: 'Audit trail', files: ['node/audit/limits.ts'] },
  { title: 'Calls between event loops', files: ['node/runtimes/limits.ts'] },
  { title: 'Actions', files: ['node/executors/limits.ts'] },
  { title: 'Processes of actions and expressions', files: ['node/processes/limits.ts'] },
  { title: 'Expressions', files: ['node/expressions/limits.ts'] },
];

/** What a user meets: what is limited, by which constants, and what happens beyond them. */
export const MET: readonly { what: string; limits: string[]; beyond: string }[] = [
  {
    what: 'tasks that wait or run in a feed',
    limits: ['ACTIVE_TASKS_MAX'],
    beyond: 'a submit is refused: `QUEUE_FULL`',
  },
  { what: 'open workflows in a feed', limits: ['ACTIVE_WORKFLOWS_MAX'], beyond: 'a submit is refused: `QUEUE_FULL`' },
  {
    what: 'rows and answers that wait for the disk or for copies',
    limits: ['JOURNAL_BACKLOG_MAX'],
    beyond: 'a submit is refused: `QUEUE_FULL`',
  },
  {
    what: 'a submission: its size, steps, dependencies, nesting, values',
    limits: ['SUBMISSION_BYTES_MAX', 'STEPS_MAX', 'EDGES_MAX', 'JSON_DEPTH_MAX', 'JSON_ELEMENTS_MAX', 'JSON_NAMES_MAX'],
    beyond: 'it is refused: `LIMIT_EXCEEDED`; over HTTP a larger body is `BODY_TOO_LARGE`',
  },
  { what: 'tasks of one run', limits: ['TASK_INSTANCES_MAX'], beyond: 'the step fails: `LIMIT_EXCEEDED`' },
  { what: 'inputs of a task', limits: ['INPUT_BYTES_MAX'], beyond: 'the task is refused or fails: `LIMIT_EXCEEDED`' },
  { what: 'output of a task', limits: ['OUTPUT_BYTES_MAX'], beyond: 'the attempt fails: `OUTPUT_TOO_LARGE`' },
  {
    what: 'result of a workflow',
    limits: ['RESULT_BYTES_MAX'],
    beyond: 'the run fails: `RESULT_TOO_LARGE`; outputs of tasks can still be read',
  },
  {
    what: 'log of a task',
    limits: ['LOG_LINES_MAX', 'LOG_LINE_CHARS_MAX'],
    beyond: 'the oldest lines are dropped and counted, a longer line is cut',
  },
  { what: 'workflows inside workflows', limits: ['NESTING_LEVELS_MAX'], beyond: 'the task fails: `LIMIT_EXCEEDED`' },
  {
    what: 'an expression',
    limits: ['EXPRESSION_TIMEOUT_MS', 'EXPRESSION_MEMORY_MB'],
    beyond: 'it fails: `EXPRESSION_TIMEOUT`, `EXPRESSION_FAILED`',
  },
  {
    what: 'calls that a client has under way at a peer, of its own and of other peers',
    limits: ['CALLS_IN_FLIGHT_MAX', 'INBOUND_CALLS_MAX'],
    beyond: 'the call is refused: `TOO_BUSY`',
  },
  {
    what: 'requests to one peer: unanswered, waiting in line, unsent bytes',
    limits: ['REQUESTS_IN_FLIGHT_MAX', 'REQUESTS_WAITING_MAX', 'OUTBOX_BYTES_MAX'],
    beyond: 'more wait in line, then `PEER_BUSY`',
  },
  {
    what: 'one message between peers, which is one frame at most',
    limits: ['MESSAGE_BYTES_MAX', 'FRAME_DEPTH_MAX', 'FRAME_ELEMENTS_MAX'],
    beyond: '`MESSAGE_TOO_LARGE` at the sender; what arrives larger closes the stream',
  },
  {
    what: 'commits on their way to a follower',
    limits: ['PUSHES_IN_FLIGHT_MAX'],
    beyond: 'it gets no more, and catches up by itself in pages when it answers',
  },
  {
    what: 'feeds of others kept by a peer',
    limits: ['COPIED_FEEDS_MAX'],
    beyond: 'another peer is asked to keep them',
  },
  {
    what: 'what other peers hand over after a partition',
    limits: ['ARRIVING_BYTES_MAX', 'ARRIVING_ROOTS_MAX'],
    beyond: 'it is refused with `HAND_OVER_FULL`, stays where it is, and is brought again',
  },
  {
    what: 'requests, calls and submissions of one caller that is asked who it is',
    limits: [
      'CALLER_REQUESTS_PER_SECOND',
      'CALLER_CALLS_PER_SECOND',
      'CALLER_SUBMISSIONS_PER_MINUTE',
      'CALLER_BYTES_PER_MINUTE',
      'CALLER_OPEN_WORKFLOWS_MAX',
    ],
    beyond:
      'a request is refused with 429 and `Retry-After`, a call with `RATE_LIMITED`, which says when to come back; the settings (`limits`) say other numbers',
  },
  {
    what: 'the audit trail: its files, lines that wait for the disk',
    limits: ['TRAIL_FILE_BYTES_MAX', 'TRAIL_FILES_MAX', 'TRAIL_LINES_WAITING_MAX'],
    beyond: 'the oldest file is removed; lines that find no room are counted in a line `lost`',
  },
  {
    what: 'results kept for owners',
    limits: ['KEPT_RESULTS_MAX', 'KEPT_RESULTS_BYTES'],
    beyond: 'the worker takes no more tasks; those of owners that are away are forgotten, the oldest first',
  },
  {
    what: 'workers of a peer, and their slots',
    limits: ['WORKERS_MAX', 'WORKER_SLOTS_MAX'],
    beyond: '`TOO_MANY_WORKERS`, `INVALID_INPUT`',
  },
  {
    what: 'history of a feed: days, number (`history_days`, `history_max`)',
    limits: ['HISTORY_DAYS_DEFAULT', 'HISTORY_ROOTS_DEFAULT'],
    beyond: 'the oldest that have ended are forgotten: `NOT_FOUND`',
  },
];

interface Limit {
  name: string;
  value: number;
  comment: string;
}

const HEAD = `# Limits

Everything in a peer is bounded. Beyond a limit there is an error that names it, or things wait; nothing grows. The unit
is part of the name.

This page is written from the sources by \`node docs/write-limits-page.ts\`.

## What you may meet

`;

/** The whole page, as it is committed. */
export async function limitsPage(): Promise<string> {
  const sections: string[] = [];
  const values = new Map<string, number>();
  for (const { title, files } of SOURCES) {
    const limits = (await Promise.all(files.map(limitsOf))).flat();
    for (const { name, value } of limits) if (!values.has(name)) values.set(name, value);
    const rows = limits.map(({ name, value, comment }) => [`\`${name}\``, shown(name, value), comment]);
    sections.push(`\n## ${title}\n\n${files.map((file) => `\`${file}\``).join(', ')}\n\n`);
    sections.push(table(['limit', 'value', 'what it bounds'], rows));
  }
  const met = MET.map(({ what, limits, beyond }) => {
    const named = limits.map((name) => `\`${name}\` ${shown(name, values.get(name)!)}`);
    return [what, named.join('<br>'), beyond];
  });
  return HEAD + table(['what', 'limit', 'beyond it'], met) + sections.join('');
}

/** The exported numbers of a source, each with the comment right above it. */
async function limitsOf(file: string): Promise<Limit[]> {
  const url = new URL(`../${file}`, import.meta.url);
  const values = (await import(url.href)) as Record<string, unknown>;
  const limits: Limit[] = [];
  for (const [, comment, name] of readFileSync(url, 'utf8').matchAll(
    /(?:\/\*\*((?:[^*]|\*(?!\/))*)\*\/\n)?^export const ([A-Z][A-Z0-9_]+) =/gm,
  )) {
    const value = values[name!];
    const said = comment?.replaceAll(/\s*\n \* ?/g, ' ').trim() ?? '';
    if (typeof value === 'number') limits.push({ name: name!, value, comment: said || inWords(name!) });
  }
  return limits;
}

/** A name that needs no comment: `ID_CHARS_MAX` is "Id chars". */
function inWords(name: string): string {
  const words = name
    .toLowerCase()
    .replaceAll('_', ' ')
    .replace(/ (max|ms)$/, '');
  return `${words[0]!.toUpperCase()}${words.slice(1)}.`;
}

function shown(name: string, value: number): string {
  if (name.includes('_BYTES')) return inUnits(value, [1024 * 1024, 'MiB'], [1024, 'KiB'], [1, 'bytes']);
  if (/_MS(_|$)/.test(name)) return inUnits(value, [3_600_000, 'h'], [60_000, 'min'], [1_000, 's'], [1, 'ms']);
  if (name.endsWith('_S')) return `${value} s`;
  if (name.endsWith('_MB')) return `${value} MB`;
  return value.toLocaleString('en-US');
}

/** In the largest unit of which it is a whole number. */
function inUnits(value: number, ...units: [size: number, name: string][]): string {
  const [size, name] = units.find(([each]) => value % each === 0)!;
  return `${(value / size).toLocaleString('en-US')} ${name}`;
}

/** With its columns in line, as the formatter wants them. */
function table(head: string[], rows: string[][]): string {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((cells) => cells[column]!.length)));
  const line = (cells: string[], fill = ' ') =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!, fill)).join(' | ')} |\n`;
  return [line(head), line(['', '', ''], '-'), ...rows.map((cells) => line(cells))].join('');
}

if (import.meta.main) writeFileSync(LIMITS_PAGE, await limitsPage());
