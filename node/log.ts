/**
 * Logs, always to stderr (P10): one JSON object a line, or one readable line where stderr is a terminal.
 *
 *   const log = createLog({ level: 'info', fields: { peer: 'peer-1', loop: 'mesh' } });
 *   log.info({ port: 7601 }, 'listening');
 *
 * Each thread makes its own: a line never waits for another loop.
 */
import { isatty } from 'node:tty';
import { type DestinationStream, destination, pino } from 'pino';
import type { Log } from '../scheduler/ports.ts';

const STDERR_FD = 2;
/** Log text that waits for a reader of stderr; beyond it lines are dropped, so that a stuck reader stalls no loop. */
const LOG_BUFFER_BYTES_MAX = 1_048_576;

export const LOG_LEVELS = ['silent', 'error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LogOptions {
  level: LogLevel;
  /** On every line, e.g. the peer's name. */
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

export function createLog(options: LogOptions): ChildLog {
  const out = options.stream ?? destination({ dest: STDERR_FD, sync: false, maxLength: LOG_BUFFER_BYTES_MAX });
  const pretty = options.pretty ?? (options.stream === undefined && isatty(STDERR_FD));
  const stream: DestinationStream = pretty ? { write: (line) => out.write(readable(line)) } : out;
  return pino({ level: options.level, base: options.fields ?? {}, timestamp: pino.stdTimeFunctions.isoTime }, stream);
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

/** `12:03:04.567 INFO  listening port=7601 loop=mesh`; the stack of an error follows on lines of its own. */
function readable(line: string): string {
  const { level, time, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const clock = String(time).slice(11, 23);
  const rest = Object.entries(fields).map(([name, value]) => ` ${name}=${plain(value)}`);
  const stack = typeof err === 'object' && err !== null && 'stack' in err ? `\n${err.stack}` : '';
  return `${clock} ${LEVEL_NAMES[Number(level)] ?? level} ${msg ?? ''}${rest.join('')}${stack}\n`;
}

function plain(value: unknown): string {
  return typeof value === 'string' && !/[\s"=]/.test(value) ? value : JSON.stringify(value);
}
