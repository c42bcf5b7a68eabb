import { expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { HttpPeers } from './http-peer.ts';

it('fair', async () => {
  await using mesh = await HttpPeers.of(
    ['a'],
    {},
    {
      worker: { slots: 2 },
      shell: { allow: ['sleep'] },
      limits: { requests_per_second: 100_000, submissions_per_minute: 1_000_000, calls_per_second: 100_000 } as never,
    },
  );
  const ann = mesh.caller('a', await mesh.key('ann', { role: 'user' }));
  const ben = mesh.caller('a', await mesh.key('ben', { role: 'user' }));
  await ann.initialize();
  await ben.initialize();
  const begun = performance.now();
  let left = 10_000;
  await Promise.all(
    Array.from({ length: 50 }, async () => {
      while (left-- > 0) {
        const told = await ann.call('task_submit', { task_type: 'shell', payload: { command: ['sleep', '0.4'] } });
        if (told.code !== undefined) throw new Error(told.message);
      }
    }),
  );
  console.log('10,000 submitted in s', (performance.now() - begun) / 1000);
  for (let round = 0; round < 5; round++) {
    const { output } = await ben.call('task_submit', { task_type: 'shell', payload: { command: ['sleep', '0.4'] } });
    const status = await eventually('ended', async () => {
      const s = (await ben.call('task_status', { task_id: output['task_id']! })).output;
      return s['status'] === 'completed' && s;
    });
    console.log(
      'position said',
      output['queue_position'],
      'waited ms',
      Date.parse(String(status['start_time'])) - Date.parse(String(status['created_at'])),
    );
  }
  const { output } = await ann.call('task_list', { status_filter: 'queued', limit: 1 });
  console.log('of ann still queued', output['total_count']);
  expect(1).toBe(1);
}, 600_000);
