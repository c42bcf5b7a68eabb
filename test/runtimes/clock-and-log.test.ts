import { expect, it, vi } from 'vitest';
import { createClock } from '../../node/clock.ts';
import { createLog } from '../../node/log.ts';

it('a timer never fires before its time, and not at all when it was cancelled', async () => {
  const clock = createClock();
  const cancelled = vi.fn();
  clock.after(1, cancelled)();
  for (let round = 0; round < 20; round++) {
    const start = clock.now();
    const delayMs = 0.5 + round / 10;
    await new Promise<void>((resolve) => clock.after(delayMs, resolve));
    // Node's own timers count whole milliseconds of a clock that is read once a turn.
    expect(clock.now() - start).toBeGreaterThan(delayMs - 1);
  }
  expect(cancelled).not.toHaveBeenCalled();
});

it('a delay longer than a timer of Node can take is waited for in parts', () => {
  vi.useFakeTimers();
  try {
    const clock = createClock();
    const fired = vi.fn();
    const days = 60;
    clock.after(days * 86_400_000, fired);
    vi.advanceTimersByTime(days * 86_400_000 - 1);
    expect(fired).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(fired).toHaveBeenCalledOnce();
    const cancel = clock.after(days * 86_400_000, fired);
    vi.advanceTimersByTime(40 * 86_400_000);
    cancel();
    vi.advanceTimersByTime(40 * 86_400_000);
    expect(fired).toHaveBeenCalledOnce();
  } finally {
    vi.useRealTimers();
  }
});

it('a pretty line is one line with the fields after the message; JSON keeps them all', () => {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  createLog({ level: 'info', fields: { peer: 'p' }, stream, pretty: true }).info({ port: 1, why: 'a b' }, 'listening');
  expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} INFO {2}listening peer=p port=1 why="a b"\n$/);
  const log = createLog({ level: 'warn', stream });
  log.info({}, 'not said');
  log.child({ loop: 'mesh' }).warn({ n: 1 }, 'said');
  expect(lines).toHaveLength(2);
  expect(JSON.parse(lines[1]!)).toMatchObject({ level: 40, loop: 'mesh', n: 1, msg: 'said' });
});

const CONTROL = /[^\P{Cc}\n]|\u202e/u;

it('what others wrote cannot look like a line of the log, nor reach the terminal as it is', () => {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  const mesh = 'x". \n12:00:00.000 INFO  all is well\u001b[2J\u009b8m\u202e';
  const readable = createLog({ level: 'info', stream, pretty: true });
  const error = new Error(`no mesh ${mesh}`);
  readable.warn({ mesh, [mesh]: 1, err: error }, `refused a peer of mesh "${mesh}"`);
  expect(lines.join('')).not.toMatch(CONTROL);
  const [first, ...stack] = lines.join('').trimEnd().split('\n');
  expect(first).toContain('\\n12:00:00.000 INFO  all is well\\x1b[2J\\x9b8m\\u202e');
  for (const line of stack) expect(line).toMatch(/^ {4}/);

  createLog({ level: 'info', stream, pretty: false }).warn({ mesh }, 'refused');
  expect(lines.at(-1)).not.toMatch(CONTROL);
  expect(JSON.parse(lines.at(-1)!)).toMatchObject({ mesh, msg: 'refused' });
});

it('a JSON line has each key once, whatever a child or a line adds', () => {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  const log = createLog({ level: 'info', fields: { name: 'p', loop: 'serve' }, stream }).child({ loop: 'mesh' });
  log.info({ peer: 'other', loop: 'store', time: 3, level: 'high', msg: 'm' }, 'said');
  const keys = [...lines[0]!.matchAll(/"(\w+)":/g)].map(([, key]) => key);
  expect(keys.sort()).toEqual([...new Set(keys)].sort());
  expect(JSON.parse(lines[0]!)).toMatchObject({
    level: 30,
    name: 'p',
    loop: 'store',
    peer: 'other',
    its_time: 3,
    msg: 'said',
  });
});
