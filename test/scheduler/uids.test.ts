/** Uids are on disks and in messages: how they are spelled must not change. */
import { describe, expect, test } from 'vitest';
import * as uids from '../../scheduler/uids.ts';

describe('the grammar of uids', () => {
  test.each([
    ['a definition', uids.definitionUid('w'), 'w:definition'],
    ['a step', uids.stepUid('w', 's'), 'w/s'],
    ['a task of a step', uids.stepTaskUid('w', 's', 3), 'w/s/3'],
    ['a log', uids.logUid('w/s/3'), 'w/s/3/log'],
    ['a cached output', uids.cacheUid('f', 'key'), 'cache/f/key'],
    ['a feed', uids.feedUid('f'), 'feed/f'],
    ['what lost', uids.supersededUid({ epoch: 2, owner: 'p', nonce: '' }, 'w/s'), 'superseded/2/p/-/w/s'],
    ['a worker', uids.workerUid('x'), 'worker/x'],
    ['a copy', uids.copyUid('f'), 'copy/f'],
    ['an intent', uids.intentUid('task_cancel', 't'), 'intent/task_cancel/t'],
  ])('%s', (_what, made, spelled) => {
    expect(made).toBe(spelled);
  });

  test.each(['w', 'w:definition', 'w/s', 'w/s/0', 'w/s/0/log'])('%s lies in w', (uid) => {
    expect(uids.containerUid(uid)).toBe('w');
  });

  test.each([
    ['w/s/0', 's'],
    ['w/s', null],
    ['w/s/0/log', null],
  ])('the step that %s is a task of: %s', (uid, step) => {
    expect(uids.stepOfTask('w', uid)).toBe(step);
  });

  test('the range of what lies in a workflow has its steps, tasks and logs, and neither itself nor its definition', () => {
    const { first, end } = uids.partsRange('w');
    const all = ['w', 'w/', 'w/s', 'w/~/0/log', 'w0', 'w:definition', 'wx/s'];
    expect(all.filter((uid) => uid >= first && uid < end)).toEqual(['w/', 'w/s', 'w/~/0/log']);
  });

  test('what is cached in a feed is not in another one whose id begins alike', () => {
    expect([uids.isCachedIn('f', 'cache/f/k'), uids.isCachedIn('f', 'cache/ff/k')]).toEqual([true, false]);
    expect(uids.workflowOfDefinition('w:definition')).toBe('w');
  });
});
