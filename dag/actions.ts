/** The known actions. A task with any other action is refused: no worker could run it, and it would wait for ever. */
import { BUILT_IN_ACTIONS } from './action-inputs.ts';
import { FlowmeshError } from './errors.ts';
import { nearest } from './nearest.ts';

/** Actions that are only a state of the task's record: no worker runs them, they hold no slot and survive restarts. */
export const RECORD_ACTIONS: ReadonlySet<string> = new Set(['sleep', 'approve', 'workflow']);

/** An action that is neither built in nor named `fn:<name>`. */
export class UnknownActionError extends FlowmeshError {
  constructor(action: string, place: string, known: string[], nearest: string | undefined) {
    const hint = nearest === undefined ? '' : `; did you mean "${nearest}"?`;
    super(
      'UNKNOWN_ACTION',
      `${place}: the action "${action}" is not one that a peer can offer (${known.join(', ')} or fn:<name>)${hint}`,
      { details: { action, place } },
    );
  }
}

/**
 * @param place where the action is named, for the message
 * @throws UnknownActionError for an action that no peer can offer
 */
export function checkAction(action: string, place: string): void {
  const known: readonly string[] = BUILT_IN_ACTIONS;
  if (known.includes(action) || /^fn:[A-Za-z_$][\w$.-]*$/.test(action)) return;
  throw new UnknownActionError(action, place, BUILT_IN_ACTIONS, nearest(action, known));
}
