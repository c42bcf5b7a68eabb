import { expect, test } from 'vitest';
import { setAside } from '../../../scheduler/storage/aliases.ts';
import { LiveRecords } from '../../../scheduler/storage/live-records.ts';
import { taskRecord } from '../records.ts';

const live = (uid: string, task_id: string) => ({ record: taskRecord(uid, { task_id }) });

test('what is live is found by its uid and by its id, until it is deleted', () => {
  const records = new LiveRecords();
  const one = live('u1', 'one');
  records.add(one);
  expect([records.get('u1'), records.byId('one'), records.size]).toEqual([one, one, 1]);
  records.delete(one);
  expect([records.get('u1'), records.byId('one'), records.size]).toEqual([undefined, undefined, 0]);
});

test('an id finds the one that got it last, whose deletion alone frees it', () => {
  const records = new LiveRecords();
  const [first, second] = [live('u1', 'same'), live('u2', 'same')];
  records.add(first);
  records.add(second);
  expect(records.byId('same')).toBe(second);
  records.delete(first);
  expect(records.byId('same')).toBe(second);
  records.delete(second);
  expect(records.byId('same')).toBeUndefined();
});

test('one that is set aside is found under its new id, and leaves the old one to whoever has it', () => {
  const records = new LiveRecords<ReturnType<typeof live>>();
  const [mine, other] = [live('u1', 'same'), live('u2', 'same')];
  records.add(mine);
  records.add(other);
  mine.record = setAside(mine.record);
  records.renamed('same', mine);
  expect([records.byId('same'), records.byId('same~u1')]).toEqual([other, mine]);
});
