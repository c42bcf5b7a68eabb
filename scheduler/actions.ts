/** Which actions there are: a task with any other could wait for ever. */
import { BUILT_IN_ACTIONS } from '../dag/action-inputs.ts';
import { nearest } from '../dag/nearest.ts';
import { UnknownActionError } from './errors.ts';

/**
 * @param place where the action is named, for the message
 * @throws UnknownActionError for one that no peer can offer
 */
export function checkAction(action: string, place: string): void {
  const known: readonly string[] = BUILT_IN_ACTIONS;
  if (known.includes(action) || /^fn:[A-Za-z_$][\w$.-]*$/.test(action)) return;
  throw new UnknownActionError(action, place, BUILT_IN_ACTIONS, nearest(action, known));
}
