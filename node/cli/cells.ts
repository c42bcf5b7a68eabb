/** Single values as people read them: a duration in its own unit, a time in the local zone, a status in its colour. */
import { styleText } from 'node:util';
import { printable, printableJson } from '../printable.ts';

const NOTHING = '–';
const MS_PER_S = 1_000;
const S_PER_MIN = 60;
const MIN_PER_H = 60;
const BYTES_PER_KIB = 1_024;

export type Style = Parameters<typeof styleText>[0];

/** Colours only where a terminal shows them, and never against NO_COLOR. */
export function paint(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return styleText(style, text, { stream, validateStream: true });
}

const STATUS_STYLES: Record<string, Style> = {
  completed: 'green',
  connected: 'green',
  active: 'green',
  idle: 'green',
  running: 'cyan',
  busy: 'cyan',
  connecting: 'cyan',
  input_required: 'yellow',
  draining: 'yellow',
  paused: 'yellow',
  failed: 'red',
  offline: 'red',
  cancelled: 'dim',
  skipped: 'dim',
  pending: 'dim',
  disconnected: 'dim',
};

export function status(value: string, stream?: NodeJS.WriteStream): string {
  const style = STATUS_STYLES[value];
  const text = printable(value.replaceAll('_', ' '));
  return style === undefined ? text : paint(style, text, stream);
}

/** `340 ms`, `2.4 s`, `3 min 5 s`, `2 h 10 min`. */
export function duration(ms: number): string {
  if (ms < MS_PER_S) return `${ms < 10 ? Number(ms.toFixed(2)) : Math.round(ms)} ms`;
  const seconds = ms / MS_PER_S;
  if (seconds < S_PER_MIN) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / S_PER_MIN);
  if (minutes < MIN_PER_H) return `${minutes} min ${Math.floor(seconds % S_PER_MIN)} s`;
  return `${Math.floor(minutes / MIN_PER_H)} h ${minutes % MIN_PER_H} min`;
}

/** `14:03:22` for today, else `2027-01-31 14:03:22`, in the local zone. */
export function time(iso: string, now = new Date()): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const two = (value: number) => String(value).padStart(2, '0');
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const day = (each: Date) => `${each.getFullYear()}-${two(each.getMonth() + 1)}-${two(each.getDate())}`;
  return day(date) === day(now) ? clock : `${day(date)} ${clock}`;
}

function bytes(value: number): string {
  if (value < BYTES_PER_KIB) return `${value} B`;
  const kib = value / BYTES_PER_KIB;
  return kib < BYTES_PER_KIB ? `${kib.toFixed(1)} KiB` : `${(kib / BYTES_PER_KIB).toFixed(1)} MiB`;
}

const ISO_TIME = /^\d{4}-\d{2}-\d{2}T[\d:.]+Z$/;

/** One value on one line. `field` is its name in the output, which says its unit. */
export function cell(field: string, value: unknown): string {
  if (value === null || value === undefined || value === '') return paint('dim', NOTHING);
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'number') return figure(field, value);
  if (typeof value === 'string') {
    if (field === 'status' || field.endsWith('_status')) return status(value);
    return ISO_TIME.test(value) ? time(value) : printable(value);
  }
  if (Array.isArray(value)) {
    if (value.length === 0) return paint('dim', NOTHING);
    return value.map((item) => (isPlain(item) ? cell(field, item) : printableJson(item))).join(', ');
  }
  if (isError(value)) return printable(`${value.code}: ${value.message}`);
  if (isWaiting(value)) return printable(value.reason);
  const parts = Object.entries(value);
  if (parts.length === 0) return paint('dim', NOTHING);
  return parts.every(([, part]) => isPlain(part))
    ? parts.map(([name, part]) => `${printable(name)} ${cell(name, part)}`).join(', ')
    : printableJson(value);
}

function figure(field: string, value: number): string {
  if (field.endsWith('_ms')) return duration(value);
  if (field.startsWith('bytes_')) return bytes(value);
  if (field === 'progress') return `${Number(value.toFixed(1))} %`;
  return Number.isInteger(value) ? String(value) : String(Number(value.toFixed(3)));
}

export function isPlain(value: unknown): boolean {
  return value === null || typeof value !== 'object';
}

function isWaiting(value: object): value is { for: string; reason: string } {
  return 'for' in value && 'reason' in value && 'since' in value;
}

function isError(value: object): value is { code: string; message: string } {
  return 'code' in value && 'message' in value && 'retryable' in value;
}
