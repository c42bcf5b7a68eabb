/** One press of Ctrl-C counts once, however often it arrives. */
import { afterEach, expect, it, vi } from 'vitest';
import { onStopSignal } from '../../node/cli/signals.ts';

afterEach(() => vi.useRealTimers());

it('an echo of a signal is the same press, a later one is the next', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const pressed: [string, number][] = [];
  const restore = onStopSignal((signal, earlier) => pressed.push([signal, earlier]));
  try {
    process.emit('SIGINT', 'SIGINT');
    vi.advanceTimersByTime(20);
    process.emit('SIGINT', 'SIGINT');
    expect(pressed).toEqual([['SIGINT', 0]]);
    vi.advanceTimersByTime(1_000);
    process.emit('SIGTERM', 'SIGTERM');
    expect(pressed).toEqual([
      ['SIGINT', 0],
      ['SIGTERM', 1],
    ]);
  } finally {
    restore();
  }
});
