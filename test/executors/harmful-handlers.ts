/** A user's module for `fn:` whose handlers do what they should not: to the peer, to the process, to runs after theirs. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { JsonObject } from '../../dag/errors.ts';
import type { FunctionContext } from '../../node/executors/handler.ts';
import { encodeMessage, FROM_PEER_FD, TO_PEER_FD } from '../../node/processes/child-messages.ts';

export const pid = () => process.pid;
export const hasChannel = () => ({ send: typeof process.send, connected: process.connected === true });

const list = (length: number) => Object.assign([], { length });
const ENTRY = { stream: 'log', line: 'forged' };
const MESSAGES: Record<string, unknown> = {
  'no message': undefined,
  'a number': 5,
  'another type': { type: 'constructor' },
  'an error without its fields': { type: 'failed' },
  'an error of numbers': { type: 'failed', run: 1, error: { code: 1, message: 2, retryable: 3 } },
  'an output that is no JSON': { type: 'completed', run: 1, json: '{' },
  'an output without its JSON': { type: 'completed', run: 1 },
  'lines that are no list': { type: 'report', run: 1, lines: 'all', progress: null },
  'lines without end': { type: 'report', run: 1, lines: list(4_000_000_000), progress: null },
  'too many lines': { type: 'report', run: 1, lines: Array(100_000).fill(ENTRY), progress: null },
  'a long line': { type: 'report', run: 1, lines: [{ ...ENTRY, line: 'x'.repeat(10_000_000) }], progress: null },
  'progress that is no number': { type: 'report', run: 1, lines: [], progress: { percent: Number.NaN } },
  'names without end': { type: 'ready', names: list(4_000_000_000) },
};
export const messages = Object.keys(MESSAGES);

/** What its message says is what a peer must not believe; then it waits until it is ended. */
export async function forges({ message }: JsonObject) {
  writeSync(TO_PEER_FD, encodeMessage(MESSAGES[String(message)]));
  await delay(600_000);
}

/** Bytes that are no message. */
export async function scribbles({ bytes }: JsonObject) {
  writeSync(TO_PEER_FD, Buffer.from(bytes as number[]));
  await delay(600_000);
}

/** Of another run than the one that is under way. */
export function forgesAnother() {
  writeSync(TO_PEER_FD, encodeMessage({ type: 'completed', run: 1_000_000, json: '"forged"' }));
  return 'mine';
}

const hostile = new Proxy(() => {}, {
  get() {
    throw new Error('not to be read');
  },
  getPrototypeOf() {
    throw new Error('not to be asked');
  },
});
const THROWN: Record<string, unknown> = {
  undefined,
  'an object without a prototype': Object.assign(Object.create(null), { status: 404 }),
  'a symbol': Symbol('paper'),
  'a function': function jam() {},
  'a proxy that throws': hostile,
  'an object whose toString throws': {
    toString() {
      throw new Error('no text');
    },
  },
  'an error whose message throws': Object.defineProperty(new Error(), 'message', {
    get() {
      throw new Error('no message');
    },
  }),
  'an error whose message is an object': Object.assign(new Error(), { message: Object.create(null) }),
  'a long text': 'x'.repeat(10_000_000),
};
export const thrown = Object.keys(THROWN);

export function throws({ what }: JsonObject) {
  throw THROWN[String(what)];
}

/** The output throws while it is made JSON. */
export function givesWhatThrows() {
  return {
    toJSON() {
      throw Object.create(null);
    },
  };
}

let spring = () => {};

/** Goes on after its end, when `trips` is run: in the context of this run, as a timer or an event would. */
export function leaves({ what }: JsonObject, { log }: FunctionContext) {
  const { promise, resolve } = Promise.withResolvers<void>();
  spring = resolve;
  const said = new Error('stray of another run');
  const LATER: Record<string, () => unknown> = {
    'a rejection': () => Promise.reject(said),
    'an exception': () =>
      setImmediate(() => {
        throw said;
      }),
    'an exit': () => process.exit(3),
    'a line': () => {
      log('of another run');
      console.log('of another run too');
    },
  };
  promise.then(LATER[String(what)]);
  return process.pid;
}

export async function trips(_inputs: JsonObject, { log }: FunctionContext) {
  spring();
  await delay(50);
  log('still here');
  return process.pid;
}

/** Its process throws when nothing runs in it. */
export function throwsWhenIdle() {
  setTimeout(() => {
    throw new Error('stray of nobody');
  }, 1);
  return process.pid;
}

/** Its process is busy when the next run comes, and dies before it begins it. */
export function diesBeforeTheNext() {
  setImmediate(() => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    process.kill(process.pid, 'SIGKILL');
  });
  return process.pid;
}

export function logsLongLines(_inputs: JsonObject, { log, progress }: FunctionContext) {
  log('x'.repeat(100_000_000));
  progress(50, 'x'.repeat(100_000_000));
  process.stdout.write(`${'y'.repeat(100_000_000)}\n`);
  log('\n'.repeat(10_000_000));
  log('end');
}

export function logsAnything(_inputs: JsonObject, { log, progress }: FunctionContext) {
  const logAny = log as (line: unknown) => void;
  for (const each of [Object.create(null), Symbol('paper'), undefined, { status: 404 }]) logAny(each);
  (progress as (percent: unknown, message: unknown) => void)('many', Object.create(null));
  progress(Number.NaN);
}

/** For as long as it runs. */
export async function logsWithoutEnd(_inputs: JsonObject, { log, signal }: FunctionContext) {
  for (let n = 0; !signal.aborted; n++) {
    for (let lines = 0; lines < 1_000; lines++) log(`${'x'.repeat(1_000)} ${n}`);
    await delay(1);
  }
}

/** Not through the log: past everything that this process watches over. */
export function writes({ descriptor, bytes }: JsonObject) {
  const chunk = Buffer.alloc(65_536, 'x');
  for (let written = 0; written < Number(bytes); ) {
    try {
      written += writeSync(Number(descriptor), chunk);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

/** Messages that say nothing wrong, and far too many of them. @returns how long they took to leave, in ms */
export function saysTooMuch({ messages: count }: JsonObject) {
  const message = encodeMessage({ type: 'report', run: 1, lines: [], progress: { percent: 1 } });
  const start = performance.now();
  for (let n = 0; n < Number(count); n++) writeSync(TO_PEER_FD, message);
  return performance.now() - start;
}

/** Whom Linux ends first when the memory of the machine runs out. */
export const killedFirst = () => readFileSync('/proc/self/oom_score_adj', 'utf8').trim();

/** For as long as its process lives, also when its run is over. */
export function throwsOnAndOn() {
  setInterval(() => {
    console.log('on and on');
    throw new Error('on and on');
  }, 1);
  return process.pid;
}

export async function lasts(_inputs: JsonObject) {
  await delay(500);
  return process.pid;
}

/** Of the pipes to the peer, those that a program that it starts has open. */
export function pipesOfAChild() {
  const listed = execFileSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' });
  const open = [...listed.matchAll(/ (\d+) -> (?:socket|pipe)/g)].map(([, descriptor]) => Number(descriptor));
  return open.filter((each) => each === FROM_PEER_FD || each === TO_PEER_FD);
}
