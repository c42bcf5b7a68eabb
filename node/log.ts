/**
 * Logs, always to stderr (P10): one JSON object a line, or one readable line where stderr is a terminal.
 *
 *   const log = createLog({ level: 'info', fields: { name: 'peer-1', loop: 'mesh' } });
 *   log.info({ port: 7601 }, 'listening');
 *
 * Each thread makes its own: a line never waits for another loop.
 */
import { isatty } from 'node:tty';
import { type DestinationStream, destination, type Logger, pino } from 'pino';
import type { Log } from '../scheduler/ports.ts';
import { escapedJson, printable, printableJson } from './printable.ts';

const STDERR_FD = 2;
const STACK_INDENT = '\n    ';
/** Log text that waits for a reader of stderr; beyond it lines are dropped, so that a stuck reader stalls no loop. */
const LOG_BUFFER_BYTES_MAX = 1_048_576;

export const LOG_LEVELS = ['silent', 'error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LogOptions {
  level: LogLevel;
  /** On every line, e.g. the peer's name; `peer` in a line is another one. */
  fields?: Record<string, string>;
  /** One readable line instead of JSON. Default: when stderr is a terminal. */
  pretty?: boolean;
  /** Where lines go. Default: stderr. */
  stream?: DestinationStream;
}

/** A log, and `child`, which adds fields to every line. */
export interface ChildLog extends Log {
  child(fields: Record<string, string>): ChildLog;
}

/** Whether lines for people go to stderr, and not JSON. */
export const LOG_IS_READABLE = isatty(STDERR_FD);

export function createLog(options: LogOptions): ChildLog {
  const out = options.stream ?? destination({ dest: STDERR_FD, sync: false, maxLength: LOG_BUFFER_BYTES_MAX });
  const pretty = options.pretty ?? (options.stream === undefined && LOG_IS_READABLE);
  const shown = pretty ? readable : escapedJson;
  const stream: DestinationStream = { write: (line) => out.write(shown(line)) };
  const lines = pino({ level: options.level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, stream);
  return new FieldLog(lines, options.fields ?? {});
}

/** What every line has of its own. */
const LINE_KEYS = ['level', 'time', 'msg'];

/** Adds fields to every line; a field of the line itself is stronger. Each key is in a line once. */
class FieldLog implements ChildLog {
  readonly #lines: Logger;
  readonly #fields: Record<string, string>;

  constructor(lines: Logger, fields: Record<string, string>) {
    this.#lines = lines;
    this.#fields = fields;
  }

  info(fields: object, message: string): void {
    this.#say('info', fields, message);
  }

  warn(fields: object, message: string): void {
    this.#say('warn', fields, message);
  }

  error(fields: object, message: string): void {
    this.#say('error', fields, message);
  }

  debug(fields: object, message: string): void {
    this.#say('debug', fields, message);
  }

  child(fields: Record<string, string>): ChildLog {
    return new FieldLog(this.#lines, { ...this.#fields, ...fields });
  }

  #say(level: 'info' | 'warn' | 'error' | 'debug', fields: object, message: string): void {
    if (!this.#lines.isLevelEnabled(level)) return;
    const all: Record<string, unknown> = { ...this.#fields, ...fields };
    for (const key of LINE_KEYS) {
      if (!(key in all)) continue;
      all[`its_${key}`] = all[key];
      delete all[key];
    }
    this.#lines[level](all, message);
  }
}

/** A log that keeps nothing, for tests and for commands that speak only through their output. */
export const silentLog: ChildLog = {
  info() {},
  warn() {},
  error() {},
  debug() {},
  child: () => silentLog,
};

const LEVEL_NAMES: Record<number, string> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO ',
  40: 'WARN ',
  50: 'ERROR',
  60: 'FATAL',
};

/**
 * `12:03:04.567 INFO  listening port=7601 loop=mesh`; the stack of an error follows on lines of its own, indented: nobody
 * else's text can look like a line.
 */
function readable(line: string): string {
  const { level, time, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const clock = String(time).slice(11, 23);
  const rest = Object.entries(fields).map(([name, value]) => ` ${printable(name)}=${plain(value)}`);
  const stack = typeof err === 'object' && err !== null && 'stack' in err ? `\n${err.stack}` : '';
  const text = `${clock} ${LEVEL_NAMES[Number(level)] ?? level} ${printable(String(msg ?? ''))}${rest.join('')}`;
  return `${text}${printable(stack, '\n').replaceAll('\n', STACK_INDENT)}\n`;
}

function plain(value: unknown): string {
  return typeof value === 'string' && !/[\s"=]/.test(value) ? printable(value) : printableJson(value);
}
