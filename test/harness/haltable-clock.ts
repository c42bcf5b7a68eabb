/** The real clock, until it is halted: then nothing that was put on it happens any more, as after a crash. */
import { createClock } from '../../node/clock.ts';
import type { Clock } from '../../scheduler/ports.ts';

export interface HaltableClock extends Clock {
  halt(): void;
}

export function createHaltableClock(): HaltableClock {
  const clock = createClock();
  const cancels = new Set<() => void>();
  let halted = false;
  return {
    now: clock.now,
    wall: clock.wall,
    after(delayMs, callback) {
      if (halted) return () => {};
      const cancelTimer = clock.after(delayMs, () => {
        cancels.delete(cancel);
        callback();
      });
      const cancel = () => {
        cancels.delete(cancel);
        cancelTimer();
      };
      cancels.add(cancel);
      return cancel;
    },
    defer(callback) {
      clock.defer(() => {
        if (!halted) callback();
      });
    },
    halt() {
      halted = true;
      for (const cancel of [...cancels]) cancel();
    },
  };
}
