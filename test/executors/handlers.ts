/** A user's module for `fn:`, good and bad handlers. */
import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import type { JsonObject } from '../../dag/errors.ts';
import type { FunctionContext } from '../../node/executors/handler.ts';

export function reports(_inputs: JsonObject, { uid, attempt, progress, log }: FunctionContext) {
  progress(40, 'half');
  log('first\nsecond');
  return { uid, attempt };
}

export function fails({ message, retryable }: JsonObject) {
  throw Object.assign(new TypeError(String(message)), { retryable, code: 'E_PAPER' });
}

export async function waits(_inputs: JsonObject, { log, signal }: FunctionContext) {
  log('waiting');
  // A pending promise alone would let the process end.
  const busy = setInterval(() => {}, 1_000);
  await new Promise((resolve) => signal.addEventListener('abort', resolve));
  clearInterval(busy);
  return 'too late';
}

/** Soon over, whatever it is told. */
export async function hurries(_inputs: JsonObject, { log }: FunctionContext) {
  log('hurrying');
  await delay(20);
}

export function ignores(_inputs: JsonObject, { log }: FunctionContext) {
  log(`waiting in ${process.pid}`);
  for (;;);
}

export async function prints() {
  console.log('to stdout');
  console.error('to stderr');
  process.stdout.write('no newline');
}

export function floods(_inputs: JsonObject, { log }: FunctionContext) {
  for (let n = 0; n < 50_000; n++) log(`line ${n}`);
}

export function exits() {
  process.exit(7);
}

export async function crashes() {
  setTimeout(() => {
    throw new Error('nobody caught this');
  }, 1);
  await new Promise((resolve) => setTimeout(resolve, 60_000));
}

export function fillsMemory() {
  const kept: number[][] = [];
  for (;;) kept.push(new Array(100_000).fill(kept.length + 0.5));
}

/** One allocation that is larger than the heap: a thread would take its whole process along. */
export function allocatesAtOnce() {
  return JSON.stringify(new Array(60_000_000).fill(1.5)).length;
}

export const large = () => 'x'.repeat(5 * 1024 * 1024);
export const infinite = () => ({ a: [1, { b: Number.POSITIVE_INFINITY }] });
export const deep = () => JSON.parse(`${'['.repeat(1_000)}${']'.repeat(1_000)}`);
export const oddName = () => JSON.parse('{"a":{"__proto__":1}}');
export const notJson = () => ({ inner: { f: () => 1 } });
export const nothing = () => undefined;

/** Starts a process of its own, which must not outlive the task. */
export async function spawns(_inputs: JsonObject, { log }: FunctionContext) {
  const child = spawn('sleep', ['300'], { stdio: 'inherit' });
  log(`sleep ${child.pid}`);
  await new Promise(() => {
    setInterval(() => {}, 1_000);
  });
}

/** The same in a session of its own, whose leader ends before it. */
export async function spawnsAway(_inputs: JsonObject, { log }: FunctionContext) {
  const child = spawn('sh', ['-c', `setsid sh -c 'sleep 300 >/dev/null 2>&1 & echo $!'`]);
  child.stdout.once('data', (pid) => log(`sleep ${pid}`));
  await new Promise(() => {
    setInterval(() => {}, 1_000);
  });
}

export class NotAHandler {}
export default function unnamed() {}
