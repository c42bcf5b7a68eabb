/** Which actions there are: a task with any other could wait for ever. */
import { nearest } from '../dag/nearest.ts';
import { UnknownActionError } from './errors.ts';

/** Actions that flowmesh itself knows; `fn:<name>` are the users' own. */
export const BUILT_IN_ACTIONS = ['shell', 'http', 'echo', 'sleep', 'approve', 'workflow'];

/**
 * @param place where the action is named, for the message
 * @throws UnknownActionError for one that no peer can offer
 */
export function checkAction(action: string, place: string): void {
  if (BUILT_IN_ACTIONS.includes(action) || /^fn:[A-Za-z_$][\w$.-]*$/.test(action)) return;
  throw new UnknownActionError(action, place, BUILT_IN_ACTIONS, nearest(action, BUILT_IN_ACTIONS));
}
