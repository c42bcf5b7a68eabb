/** Whose turn it is: by hand, without processes. */
import { expect, it } from 'vitest';
import { JobQueue, type QueuedJob } from '../../node/expressions/job-queue.ts';
import { JOBS_PER_MESSAGE_MAX } from '../../node/expressions/limits.ts';

const job = (group: string, n: number): QueuedJob => ({
  job: { check: `${group}${n}` },
  group,
  needs: 'nothing',
  settle() {},
});
const jobs = (group: string, count: number) => Array.from({ length: count }, (_, n) => job(group, n));
const names = (batch: readonly QueuedJob[]) => batch.map((each) => 'check' in each.job && each.job.check);

it('what waits of several is one batch, in the order of their turns', () => {
  const queue = new JobQueue();
  queue.add([...jobs('a', 2), ...jobs('b', 1)]);
  queue.add(jobs('a', 1));
  expect(names(queue.take())).toEqual(['a0', 'a1', 'a0', 'b0']);
  expect(queue.first).toBeUndefined();
  expect(queue.take()).toEqual([]);
});

it('one with more than a batch comes again after the others', () => {
  const queue = new JobQueue();
  queue.add([...jobs('a', 2 * JOBS_PER_MESSAGE_MAX), ...jobs('b', 1)]);
  expect(new Set(queue.take().map(({ group }) => group))).toEqual(new Set(['a']));
  const [first, ...rest] = queue.take();
  expect(first!.group).toBe('b');
  expect(rest).toHaveLength(JOBS_PER_MESSAGE_MAX - 1);
});

it('what has not run is first of its own, and who had nothing of the batch is next', () => {
  const queue = new JobQueue();
  queue.add([...jobs('a', 3), ...jobs('b', 2)]);
  const batch = queue.take();
  queue.add([job('c', 0), job('a', 3)]);
  queue.putBack(batch.slice(1), batch.slice(0, 1));
  expect(names(queue.take())).toEqual(['b0', 'b1', 'c0', 'a1', 'a2', 'a3']);
});

it('costly jobs go in small batches, until they are quick again', () => {
  const queue = new JobQueue();
  queue.add(jobs('a', 2 * JOBS_PER_MESSAGE_MAX));
  const batch = queue.take();
  queue.learn(batch, 1);
  queue.putBack(batch.slice(1), batch.slice(0, 1));
  const small = queue.take();
  expect(names(small)).toEqual(['a1', 'a2']);
  for (let ran = small.length; ran < JOBS_PER_MESSAGE_MAX; ran *= 2) {
    queue.learn(jobs('a', ran), ran);
    const next = queue.take();
    expect(next).toHaveLength(Math.min(2 * ran, JOBS_PER_MESSAGE_MAX));
    queue.putBack(next, []);
  }
});

it('those whose results were lost with their process are the next batch, without more', () => {
  const queue = new JobQueue();
  queue.add([...jobs('a', 1), ...jobs('b', 4), ...jobs('c', 3)]);
  // The results of a0 and b0 have left; c0 has ended the process.
  const [, , ...unfinished] = queue.take();
  const late = unfinished.splice(3, 1);
  expect(names(late)).toEqual(['c0']);
  queue.repeat(3);
  queue.putBack(unfinished, late);
  expect(names(queue.take())).toEqual(['b1', 'b2', 'b3']);
  queue.learn(jobs('b', 3), 3);
  expect(names(queue.take())).toEqual(['c1', 'c2']);
});

it('one that needs a message to itself gets it', () => {
  const queue = new JobQueue();
  const alone: QueuedJob = { ...job('b', 0), needs: 'to be alone' };
  queue.add([...jobs('a', 2), alone, ...jobs('b', 2)]);
  expect(names(queue.take())).toEqual(['a0', 'a1']);
  expect(queue.first).toBe(alone);
  expect(queue.take()).toEqual([alone]);
  expect(queue.take()).toHaveLength(2);
});

it('gives every job out once, however batches are cut', () => {
  const queue = new JobQueue();
  const all = ['a', 'b', 'c', 'd'].flatMap((group, n) => jobs(group, 100 * n + 7));
  queue.add(all);
  const ran: QueuedJob[] = [];
  for (let turn = 0; queue.first !== undefined; turn++) {
    const batch = queue.take();
    const count = Math.min(1 + ((turn * 7) % 40), batch.length);
    ran.push(...batch.slice(0, count));
    queue.learn(batch, count);
    queue.putBack(batch.slice(count), batch.slice(0, count));
  }
  expect(ran).toHaveLength(all.length);
  for (const group of ['a', 'b', 'c', 'd']) {
    expect(ran.filter((each) => each.group === group)).toEqual(all.filter((each) => each.group === group));
  }
});
