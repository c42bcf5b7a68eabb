/**
 * Ends this process as a power cut would, at a named point of the scheduler: for tests of what a crash leaves behind.
 *
 *   FLOWMESH_CRASH_AT=commit:after     the first time rows are on the disk and nothing is released
 *   FLOWMESH_CRASH_AT=commit:after:3   the third time
 */
import { CRASH_POINTS, type Probe } from '../../scheduler/crash-points.ts';
import { InvalidConfigError } from '../config/sources.ts';

export const CRASH_AT_VARIABLE = 'FLOWMESH_CRASH_AT';

/**
 * The probe that `value` asks for; undefined when it asks for none.
 *
 * @throws InvalidConfigError with the points there are
 */
export function crashAt(value: string | undefined): Probe | undefined {
  if (value === undefined || value.trim() === '') return undefined;
  const { point, time = '1' } = /^(?<point>.*?)(?::(?<time>[1-9]\d*))?$/.exec(value.trim())?.groups ?? {};
  if (!CRASH_POINTS.some((known) => known === point)) {
    const message = `must be one of ${CRASH_POINTS.join(', ')}; ":3" after it means the third time`;
    throw new InvalidConfigError([{ source: `${CRASH_AT_VARIABLE}=${value}`, message }]);
  }
  let timesLeft = Number(time);
  return (reached) => {
    if (reached !== point) return;
    timesLeft -= 1;
    if (timesLeft === 0) process.kill(process.pid, 'SIGKILL');
  };
}
