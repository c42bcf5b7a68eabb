import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../../dag/schema.ts';
import type { TaskRecord } from '../../../scheduler/records.ts';
import { compareQueueKeys, Queue, type QueueKey } from '../../../scheduler/task/queue.ts';
import { taskRecord } from '../records.ts';

const ACTIONS = ['echo', 'shell', 'fn:a'];

const records = fc
  .uniqueArray(
    fc.record({
      uid: fc.string({ minLength: 1, maxLength: 4 }),
      priority: fc.constantFrom(0, 0.5, 1, 10),
      second: fc.nat(3),
      action: fc.constantFrom(...ACTIONS),
      label: fc.constantFrom([], ['gpu']),
    }),
    { selector: ({ uid }) => uid, maxLength: 60 },
  )
  .map((list) =>
    list.map(({ uid, priority, second, action, label }) =>
      taskRecord(uid, {
        priority,
        task_type: action,
        created_at: `2026-01-01T00:00:0${second}.000Z`,
        requires: requiresSchema.parse({ labels: label }),
      }),
    ),
  );

type Command = { do: 'add'; at: number } | { do: 'remove'; at: number } | { do: 'promote'; at: number; to: number };
const commands = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('add' as const), at: fc.nat(99) }),
    fc.record({ do: fc.constant('remove' as const), at: fc.nat(99) }),
    fc.record({ do: fc.constant('promote' as const), at: fc.nat(99), to: fc.integer({ min: 0, max: 10 }) }),
  ),
  { maxLength: 200 },
);

/** The queue beside a plain sorted array. */
function play(list: readonly TaskRecord[], steps: readonly Command[]): { queue: Queue; model: TaskRecord[] } {
  const queue = new Queue();
  const model = new Map<string, TaskRecord>();
  for (const step of steps) {
    const record = list[step.at % Math.max(list.length, 1)];
    if (record === undefined) continue;
    const known = model.get(record.uid);
    if (step.do === 'remove') {
      expect(queue.remove(record.uid)).toBe(known !== undefined);
      model.delete(record.uid);
      continue;
    }
    const next = step.do === 'add' ? record : { ...(known ?? record), priority: step.to };
    queue.add(next);
    model.set(next.uid, next);
  }
  return { queue, model: [...model.values()].sort(compareQueueKeys) };
}

const sameClass = (a: TaskRecord) => (b: TaskRecord) =>
  a.task_type === b.task_type && a.requires.labels.join() === b.requires.labels.join();

describe('a queue', () => {
  test('is a sorted array: positions, heads, counts', () => {
    fc.assert(
      fc.property(records, commands, (list, steps) => {
        const { queue, model } = play(list, steps);
        expect(queue.size).toBe(model.length);
        for (const [position, record] of model.entries()) {
          expect(queue.has(record.uid)).toBe(true);
          expect(queue.position(record.uid)).toBe(position);
        }
        const firsts = model.filter((record, at) => model.findIndex(sameClass(record)) === at);
        expect(queue.heads(100).map(({ head }) => head.uid)).toEqual(firsts.map(({ uid }) => uid));
        expect(queue.waiting(2)).toEqual(
          firsts.slice(0, 2).map((first) => ({
            action: first.task_type,
            requires: first.requires,
            count: model.filter(sameClass(first)).length,
            max_priority: first.priority,
          })),
        );
        for (const { of } of queue.heads(100)) {
          const inClass = model.filter(sameClass(taskRecord('', { task_type: of.action, requires: of.requires })));
          expect([...of.tasks.keys()].map(({ uid }) => uid)).toEqual(inClass.map(({ uid }) => uid));
        }
      }),
    );
  });

  test('shows its heads in pages', () => {
    fc.assert(
      fc.property(records, commands, fc.integer({ min: 1, max: 4 }), (list, steps, size) => {
        const { queue } = play(list, steps);
        const all = queue.heads(100).map(({ head }) => head);
        const paged: QueueKey[] = [];
        for (let page = queue.heads(size); page.length > 0; page = queue.heads(size, paged.at(-1)!)) {
          paged.push(...page.map(({ head }) => head));
        }
        expect(paged).toEqual(all);
      }),
    );
  });

  test('is put in order by the priorities of now, and says whether that changed it', () => {
    fc.assert(
      fc.property(records, commands, fc.array(fc.integer({ min: 0, max: 10 })), (list, steps, priorities) => {
        const { queue, model } = play(list, steps);
        const current = model.map((record, at) => ({ ...record, priority: priorities[at] ?? record.priority }));
        const byUid = new Map(current.map((record) => [record.uid, record]));
        const changed = queue.reorder((uid) => byUid.get(uid)!);
        const sorted = [...current].sort(compareQueueKeys).map(({ uid }) => uid);
        expect(sorted.map((uid) => queue.position(uid))).toEqual([...sorted.keys()]);
        const moved = sorted.some((uid, at) => model[at]!.uid !== uid);
        if (moved) expect(changed).toBe(true);
        expect(queue.reorder((uid) => byUid.get(uid)!)).toBe(false);
      }),
    );
  });

  test('a change of priority that moves nothing is no new order', () => {
    const queue = new Queue();
    const [first, second] = [taskRecord('a', { priority: 5 }), taskRecord('b', { priority: 1 })];
    queue.add(first);
    queue.add(second);
    const now = new Map([
      ['a', { ...first, priority: 4 }],
      ['b', second],
    ]);
    expect(queue.reorder((uid) => now.get(uid)!)).toBe(false);
    expect(queue.heads(1)[0]!.head.priority).toBe(4);
  });

  test('one class holds what the same workers can run, whatever the order of labels', () => {
    const queue = new Queue();
    for (const [uid, labels] of [
      ['a', ['x', 'y']],
      ['b', ['y', 'x']],
      ['c', ['x']],
    ] as const) {
      queue.add(taskRecord(uid, { requires: requiresSchema.parse({ labels }) }));
    }
    expect(queue.waiting(10).map(({ count }) => count)).toEqual([2, 1]);
  });

  test('is empty after clear', () => {
    const queue = new Queue();
    for (const uid of ['a', 'b', 'c']) queue.add(taskRecord(uid, { task_type: `fn:${uid}` }));
    queue.clear();
    expect([queue.size, queue.heads(10), queue.position('a')]).toEqual([0, [], null]);
  });
});

describe('callers take turns', () => {
  const of = (caller: string | undefined, n: number, over: Partial<TaskRecord> = {}) =>
    taskRecord(`${caller ?? 'nobody'}-${n}`, {
      ...(caller !== undefined && { submitted_by: caller }),
      created_at: new Date(n).toISOString(),
      ...over,
    });
  /** Gives all tasks out, one after the other; whose they are. */
  function givenOut(queue: Queue, count = Number.POSITIVE_INFINITY, heads = queue.heads(1_000)): string[] {
    const given: string[] = [];
    while (heads.length > 0 && given.length < count) {
      const { of: taken, head } = queue.takeNext(heads);
      given.push(taken.caller);
      queue.served(taken);
      queue.remove(head.uid);
      const next = taken.tasks.minKey();
      if (next !== undefined) heads.push({ of: taken, head: next });
      heads.sort((a, b) => compareQueueKeys(a.head, b.head));
    }
    return given;
  }
  function queueOf(tasks: readonly TaskRecord[], weights?: ReadonlyMap<string, number>): Queue {
    const queue = new Queue(weights);
    for (const record of tasks) queue.add(record);
    return queue;
  }
  const many = (caller: string | undefined, count: number, over?: Partial<TaskRecord>) =>
    Array.from({ length: count }, (_, n) => of(caller, n, over));

  test('one that comes last is next, however many wait', () => {
    const queue = queueOf(many('ann', 10_000));
    expect(new Set(givenOut(queue, 3))).toEqual(new Set(['ann']));
    queue.add(of('ben', 99_999));
    expect(givenOut(queue, 3)).toEqual(['ben', 'ann', 'ann']);
  });

  test('also those whose tasks have no caller, and those with tasks of many kinds', () => {
    const kinds = Array.from({ length: 20 }, (_, n) => of('ann', n, { task_type: `fn:${n}` }));
    const queue = queueOf([...kinds, ...many(undefined, 3, { created_at: '2030-01-01T00:00:00.000Z' })]);
    expect(givenOut(queue, 6).filter((caller) => caller === '')).toHaveLength(3);
  });

  test('by their weights', () => {
    const queue = queueOf([...many('ann', 90), ...many('ben', 90)], new Map([['ann', 2]]));
    expect(givenOut(queue, 30).filter((caller) => caller === 'ann')).toHaveLength(20);
  });

  test('only at equal priority', () => {
    const queue = queueOf([...many('ann', 5, { priority: 9 }), ...many('ben', 5, { priority: 1 })]);
    expect(givenOut(queue, 6)).toEqual(['ann', 'ann', 'ann', 'ann', 'ann', 'ben']);
  });

  test('the tasks of one caller keep their order, and none is left out', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ caller: fc.constantFrom('ann', 'ben', undefined), kind: fc.nat(2) }), { maxLength: 60 }),
        (list) => {
          const records = list.map(({ caller, kind }, n) => of(caller, n, { task_type: `fn:${kind}` }));
          const queue = queueOf(records);
          const heads = queue.heads(1_000);
          const given: string[] = [];
          const turns = new Map<string, number>();
          while (heads.length > 0) {
            const { of: taken, head } = queue.takeNext(heads);
            queue.served(taken);
            given.push(head.uid);
            turns.set(taken.caller, (turns.get(taken.caller) ?? 0) + 1);
            queue.remove(head.uid);
            const next = taken.tasks.minKey();
            if (next !== undefined) heads.push({ of: taken, head: next });
            heads.sort((a, b) => compareQueueKeys(a.head, b.head));
            // While all have some left, nobody is more than one turn ahead.
            const left = new Set(heads.map((each) => each.of.caller));
            const counts = [...left].map((caller) => turns.get(caller) ?? 0);
            if (left.size > 1) expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
          }
          expect(given.toSorted()).toEqual(records.map(({ uid }) => uid).toSorted());
          for (const caller of ['ann', 'ben', undefined]) {
            const own = records.filter(({ submitted_by }) => submitted_by === caller).map(({ uid }) => uid);
            expect(given.filter((uid) => own.includes(uid))).toEqual(own);
          }
          expect([queue.size, queue.firstOfCallers(10)]).toEqual([0, []]);
        },
      ),
    );
  });

  test('each caller is among those that are looked at, whatever the others have waiting', () => {
    const kinds = Array.from({ length: 500 }, (_, n) => of('ann', n, { task_type: `fn:${n}` }));
    const queue = queueOf([...kinds, of('ben', 9_999)]);
    expect(queue.heads(128).some((each) => each.of.caller === 'ben')).toBe(false);
    expect(queue.firstOfCallers(128).map((each) => each.of.caller)).toContain('ben');
  });

  test('and what waits is told by kind, not by caller', () => {
    const queue = queueOf([...many('ann', 3), ...many('ben', 2)]);
    expect(queue.waiting(10)).toMatchObject([{ count: 5 }]);
  });
});
