/**
 * JSONata as this project speaks it: the same in the sandbox process and in the simulation.
 *
 * - An undefined result is null; a result that JSON cannot hold (a function, an infinity) is an error.
 * - `$eval` is disabled: an expression that is built while the workflow runs could be checked neither at submit nor
 *   for the steps it mentions.
 * - `$now`, `$millis`, `$random` and `$shuffle` are kept: what an expression gave is written down before it is used
 *   (P1), so an unpredictable answer is asked for once.
 *
 *   const expressions = new Expressions();
 *   await expressions.evaluate({ expression: '$sum(input.prices)', scope: { input: { prices: [1, 2] } } });
 *   // { json: '3' }
 */
import jsonata from 'jsonata';
import { cutText, type ErrorShape, type JsonObject } from '../../dag/errors.ts';
import type { CheckedExpression, EvaluationJob } from '../../scheduler/ports.ts';
import { encodeJson, NotJsonError } from '../processes/json-result.ts';
import { COMPILED_CHARS_MAX, COMPILED_MAX, EXPRESSION_DEPTH_MAX, RESULT_BYTES_MAX } from './limits.ts';
import { type ExpressionProblem, failure, timeoutError } from './problems.ts';
import { namesIn } from './scope-names.ts';

/** JSONata throws plain objects with these fields, and now and then an exception of the JavaScript below it. */
interface Thrown {
  code?: string;
  message?: string;
  position?: number;
}

const CODE_TIMEOUT = 'D1012';

const DISABLED = {
  eval: () => {
    throw { code: 'DISABLED', message: '$eval is disabled: write the expression where it is used' };
  },
};

export class Expressions {
  readonly #options: jsonata.JsonataOptions;
  readonly #timeoutMs: number | null;
  /** Oldest use first. */
  readonly #compiled = new Map<string, jsonata.Expression>();
  /** Of their texts together. */
  #compiledChars = 0;

  /**
   * @param timeoutMs running time of one expression; null: not measured
   * @param clockMs how long it may take on the clock, checked by JSONata between two steps
   */
  constructor(timeoutMs: number | null = null, clockMs = timeoutMs) {
    this.#timeoutMs = timeoutMs;
    this.#options = { stack: EXPRESSION_DEPTH_MAX, ...(clockMs !== null && { timeout: clockMs }) };
  }

  /** Parses only. */
  check(expression: string): CheckedExpression {
    try {
      return { names: namesIn(this.#compile(expression).ast()) };
    } catch (error) {
      return { problem: problemOf(error as Thrown) };
    }
  }

  /** Never throws. Expressions do not change `scope`, but a result may share parts of it: it leaves as text. */
  async evaluate(job: EvaluationJob): Promise<{ json: string } | { error: ErrorShape }> {
    try {
      const value: unknown = await this.#compile(job.expression).evaluate(job.scope, DISABLED);
      return { json: encodeJson(value, RESULT_BYTES_MAX, isFunction) };
    } catch (error) {
      const thrown = error as Thrown;
      if (thrown.code === CODE_TIMEOUT) return { error: timeoutError(job.expression, this.#timeoutMs ?? 0) };
      const { message, position } = problemOf(thrown);
      const details: JsonObject = { position: error instanceof NotJsonError ? null : position };
      if (thrown.code !== undefined) details['jsonata_code'] = thrown.code;
      return { error: failure(job.expression, message, details) };
    }
  }

  #compile(expression: string): jsonata.Expression {
    const known = this.#compiled.get(expression);
    if (known !== undefined) {
      this.#compiled.delete(expression);
      this.#compiled.set(expression, known);
      return known;
    }
    const compiled = jsonata(expression, this.#options);
    this.#compiled.set(expression, compiled);
    this.#compiledChars += expression.length;
    for (const oldest of this.#compiled.keys()) {
      if (this.#compiled.size <= COMPILED_MAX && this.#compiledChars <= COMPILED_CHARS_MAX) break;
      this.#compiled.delete(oldest);
      this.#compiledChars -= oldest.length;
    }
    return compiled;
  }
}

/** JSONata's own functions and those of an expression are objects. */
function isFunction(value: object): boolean {
  if ('_jsonata_function' in value) return 'implementation' in value && typeof value.implementation === 'function';
  return '_jsonata_lambda' in value && typeof (value as { apply?: unknown }).apply === 'function';
}

function problemOf(thrown: Thrown): ExpressionProblem {
  const message = thrown instanceof RangeError ? rangeMessage(thrown) : thrown.message;
  return { message: cutText(message ?? String(thrown.code ?? thrown)), position: thrown.position ?? 0 };
}

function rangeMessage(error: RangeError): string {
  return /call stack/.test(error.message) ? 'it is nested too deeply' : error.message;
}
