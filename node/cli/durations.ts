/** Durations as people type them: `90s`, `1h`, `30d`. */
import ms, { type StringValue } from 'ms';
import { UsageError } from './exit.ts';

/** @returns milliseconds @throws UsageError naming the option */
export function durationOf(option: string, text: string): number {
  const value = text.length > 0 && text.length < 32 ? ms(text as StringValue) : undefined;
  if (value !== undefined && Number.isFinite(value) && value >= 0) return Math.round(value);
  throw new UsageError(`${option}: "${text}" is not a duration such as 90s, 1h or 30d`);
}
