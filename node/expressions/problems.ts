/** What can be wrong with an expression. Apart from JSONata, which only the processes that evaluate load. */
import { cutText, type ErrorShape, type JsonObject } from '../../dag/errors.ts';
import { SHOWN_CHARS_MAX } from './limits.ts';

/** What is wrong with an expression; `position` is the character JSONata stopped at. */
export interface ExpressionProblem {
  message: string;
  position: number;
}

export const EXPRESSION_TIMEOUT = 'EXPRESSION_TIMEOUT';

export function timeoutError(expression: string, timeoutMs: number): ErrorShape {
  return {
    code: EXPRESSION_TIMEOUT,
    message: `expression ${shown(expression)} ran longer than ${timeoutMs} ms; look for an endless recursion or a costly regular expression`,
    retryable: false,
    details: { expression: cut(expression), timeout_ms: timeoutMs },
  };
}

/** `EXPRESSION_FAILED`. Not retryable: the same expression over the same data fails again. */
export function failure(expression: string, message: string, details: JsonObject = {}): ErrorShape {
  const position = details['position'];
  const where = typeof position === 'number' ? ` at character ${position}` : '';
  return {
    code: 'EXPRESSION_FAILED',
    message: `expression ${shown(expression)} failed${where}: ${cutText(message)}`,
    retryable: false,
    details: { expression: cut(expression), ...details },
  };
}

function shown(expression: string): string {
  return JSON.stringify(cut(expression));
}

function cut(expression: string): string {
  return expression.length > SHOWN_CHARS_MAX ? `${expression.slice(0, SHOWN_CHARS_MAX)}…` : expression;
}
