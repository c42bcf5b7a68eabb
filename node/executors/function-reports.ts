/**
 * Logs and progress of handlers, on their way to the peer. The first ones leave at once, so that the last words of a
 * handler that spins are heard; what goes beyond REPORTED_LINES_MAX or REPORTED_CHARS_MAX in an interval waits for the
 * next one, where the last lines are sent and the others counted. Lines are cut here: a long one costs only this
 * process.
 */
import { cutText } from '../../dag/errors.ts';
import { LOG_LINES_MAX } from '../../scheduler/limits.ts';
import type { LogLine } from '../../scheduler/records.ts';
import type { FromFunctionProcess } from './function-messages.ts';
import {
  OUTSIDE_LINES_MAX,
  PROGRESS_MESSAGE_CHARS_MAX,
  REPORT_INTERVAL_MS,
  REPORTED_CHARS_MAX,
  REPORTS_PER_INTERVAL_MAX,
} from './limits.ts';
import { LineSplitter } from './lines.ts';
import { shown } from './thrown.ts';

type Stream = LogLine['stream'];

/** How much may still leave in this interval, whichever run it is of. */
const allowance = { since: Number.NEGATIVE_INFINITY, reports: 0, lines: 0, chars: 0 };

/** @returns how long this interval still lasts, in ms */
function renewAllowance(): number {
  const now = performance.now();
  if (now - allowance.since >= REPORT_INTERVAL_MS) {
    Object.assign(allowance, {
      since: now,
      reports: REPORTS_PER_INTERVAL_MAX,
      lines: LOG_LINES_MAX,
      chars: REPORTED_CHARS_MAX,
    });
  }
  return allowance.since + REPORT_INTERVAL_MS - now;
}

export class Reports {
  readonly #send: (message: FromFunctionProcess & { type: 'report' }) => void;
  readonly #run: number | null;
  readonly #linesMax: number;
  readonly #splitters: Record<Stream, LineSplitter>;
  #lines: { stream: Stream; line: string }[] = [];
  /** Of these lines together. */
  #chars = 0;
  #leftOut = 0;
  #progress: { percent: number; message?: string | undefined } | null = null;
  #timer: NodeJS.Timeout | undefined;

  /** @param run its number; null for what no run that is under way writes */
  constructor(run: number | null, send: (message: FromFunctionProcess & { type: 'report' }) => void) {
    this.#run = run;
    this.#linesMax = run === null ? OUTSIDE_LINES_MAX : LOG_LINES_MAX;
    this.#send = send;
    const splitter = (stream: Stream) => new LineSplitter((line) => this.#line(stream, line));
    this.#splitters = { stdout: splitter('stdout'), stderr: splitter('stderr'), log: splitter('log') };
  }

  /** What was printed; a line without its end waits for it. */
  print(stream: 'stdout' | 'stderr', chunk: string | Uint8Array): void {
    this.#splitters[stream].push(typeof chunk === 'string' ? chunk : Buffer.from(chunk));
    this.#due();
  }

  log(line: unknown): void {
    this.#splitters.log.push(typeof line === 'string' ? line : shown(line));
    this.#splitters.log.endLine();
    this.#due();
  }

  progress(percent: unknown, message: unknown): void {
    const text = message === undefined || typeof message === 'string' ? message : shown(message);
    this.#progress = {
      percent: Math.min(100, Math.max(0, typeof percent === 'number' ? percent || 0 : 0)),
      ...(text !== undefined && { message: cutText(text, PROGRESS_MESSAGE_CHARS_MAX) }),
    };
    this.#due();
  }

  /** The run ended: everything goes out, a line without its end too. */
  end(): void {
    for (const each of Object.values(this.#splitters)) each.end();
    this.#sendNow(LOG_LINES_MAX, Number.POSITIVE_INFINITY);
  }

  #line(stream: Stream, line: string): void {
    this.#lines.push({ stream, line });
    this.#chars += line.length;
    if (this.#lines.length > 2 * LOG_LINES_MAX) this.#leaveOut(this.#lines.length - LOG_LINES_MAX);
  }

  #leaveOut(count: number): void {
    for (const { line } of this.#lines.splice(0, count)) this.#chars -= line.length;
    this.#leftOut += count;
  }

  #due(): void {
    const wait = renewAllowance();
    const { reports, lines, chars } = allowance;
    if (reports > 0 && this.#lines.length <= Math.min(lines, this.#linesMax) && this.#chars <= chars)
      this.#sendNow(lines, chars);
    else this.#timer ??= setTimeout(() => this.#overdue(), wait).unref();
  }

  #overdue(): void {
    this.#timer = undefined;
    const wait = renewAllowance();
    const { reports, lines, chars } = allowance;
    if (reports > 0 && lines > 0) this.#sendNow(lines, chars);
    else this.#timer = setTimeout(() => this.#overdue(), wait).unref();
  }

  /** The last of what waits, within these bounds. */
  #sendNow(linesMax: number, charsMax: number): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    linesMax = Math.min(linesMax, this.#linesMax);
    while (this.#lines.length > linesMax || (this.#chars > charsMax && this.#lines.length > 0)) this.#leaveOut(1);
    if (this.#leftOut > 0) this.#noteLeftOut(linesMax);
    if (this.#lines.length === 0 && this.#progress === null) return;
    allowance.reports -= 1;
    allowance.lines -= this.#lines.length;
    allowance.chars -= this.#chars;
    this.#send({ type: 'report', run: this.#run, lines: this.#lines, progress: this.#progress });
    this.#lines = [];
    this.#chars = 0;
    this.#progress = null;
  }

  #noteLeftOut(linesMax: number): void {
    if (this.#lines.length >= linesMax) this.#leaveOut(1);
    this.#lines.unshift({ stream: this.#lines[0]?.stream ?? 'log', line: `… (${this.#leftOut} lines left out)` });
    this.#leftOut = 0;
  }
}
