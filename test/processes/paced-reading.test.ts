import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { CHILD_INTERVAL_MS } from '../../node/processes/limits.ts';
import { readPaced } from '../../node/processes/paced-reading.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Ten chunks that wait, each of which is two fifths of an interval. */
function begin() {
  const stream = new PassThrough();
  let read = 0;
  const readOn = readPaced(stream, () => {
    read += 1;
    return 0.4;
  });
  for (let count = 0; count < 10; count += 1) stream.write('x');
  return { readOn, count: () => read };
}

it('what is more than an interval waits for the next one', async () => {
  const { count } = begin();
  await turn();
  expect(count()).toBe(3);
  await vi.advanceTimersByTimeAsync(CHILD_INTERVAL_MS);
  await turn();
  expect(count()).toBe(6);
});

it('of what has ended the rest is read at once', async () => {
  const { readOn, count } = begin();
  await turn();
  readOn();
  await turn();
  expect(count()).toBe(10);
});
