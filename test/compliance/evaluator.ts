/** What every Evaluator promises (scheduler/ports.ts), on a process of its own or on the caller's loop. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ERROR_MESSAGE_CHARS_MAX, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import { EXPRESSION_CHARS_MAX, INPUT_BYTES_MAX } from '../../dag/limits.ts';
import type { Evaluator } from '../../scheduler/ports.ts';

export interface EvaluatorUnderTest {
  evaluator: Evaluator;
  cleanup(): Promise<void>;
}

export function evaluatorCompliance(name: string, setup: () => EvaluatorUnderTest): void {
  describe(name, () => {
    let under: EvaluatorUnderTest;
    beforeAll(() => {
      under = setup();
    });
    afterAll(() => under.cleanup());

    const evaluate = async (expression: string, scope: JsonObject = {}) =>
      (await under.evaluator.evaluate([{ expression, scope }]))[0]!;
    const resultOf = async (expression: string, scope: JsonObject = {}): Promise<JsonValue> => {
      const result = await evaluate(expression, scope);
      if ('error' in result) throw new Error(result.error.message);
      return result.value;
    };
    const errorOf = async (expression: string, scope: JsonObject = {}) => {
      const result = await evaluate(expression, scope);
      if ('value' in result) throw new Error(`a value: ${JSON.stringify(result.value)}`);
      return result.error;
    };

    it('keeps the types of values', async () => {
      const scope = { input: { a: 1, b: 'x', c: true, d: null, e: [1, [2]], f: { g: [] } } };
      expect(await resultOf('input', scope)).toEqual(scope.input);
      for (const key of ['a', 'b', 'c', 'd', 'e', 'f'] as const) {
        expect(await resultOf(`input.${key}`, scope)).toEqual(scope.input[key]);
      }
    });

    it('computes over the names in scope', async () => {
      const scope = { input: { limit: 2 }, steps: { count: { output: [1, 2, 3], status: 'completed' } }, index: 1 };
      expect(await resultOf('$sum(steps.count.output[$ > $$.input.limit - 1])', scope)).toBe(5);
      expect(await resultOf('$map(steps.count.output, function($n) { $n * 2 })', scope)).toEqual([2, 4, 6]);
      expect(await resultOf('steps.count.status & "-" & index', scope)).toBe('completed-1');
    });

    it('turns undefined into null, and a sequence into a plain list', async () => {
      expect(await resultOf('input.missing', { input: {} })).toBeNull();
      expect(await resultOf('[1..3].($ + 1)')).toEqual([2, 3, 4]);
      expect(Object.keys((await resultOf('[1..3].($ + 1)')) as object)).toEqual(['0', '1', '2']);
    });

    it('answers every job in its place, a failed one beside others', async () => {
      const jobs = Array.from({ length: 600 }, (_, n) => ({
        expression: n % 100 === 7 ? '"a" * 1' : 'item + 1',
        scope: { item: n },
      }));
      const results = await under.evaluator.evaluate(jobs);
      expect(results).toHaveLength(600);
      for (const [n, result] of results.entries()) {
        if (n % 100 === 7) expect(result).toMatchObject({ error: { code: 'EXPRESSION_FAILED' } });
        else expect(result).toEqual({ value: n + 1 });
      }
      expect(await under.evaluator.evaluate([])).toEqual([]);
    });

    it('says what failed with the message of JSONata and its position', async () => {
      expect(await errorOf('1 + "a" * 2')).toMatchObject({
        code: 'EXPRESSION_FAILED',
        retryable: false,
        message: expect.stringMatching(/"1 \+ \\"a\\" \* 2" failed at character 9: .*must evaluate to a number/),
        details: { position: 9, jsonata_code: 'T2001', expression: '1 + "a" * 2' },
      });
      expect(await errorOf('1 +')).toMatchObject({ code: 'EXPRESSION_FAILED', details: { position: 3 } });
      expect((await errorOf('$error("no stock")')).message).toContain('no stock');
    });

    it.each(['$error($pad("x", 2000000))', '$assert(false, $pad("x", 2000000))'])(
      'cuts the text of an error where it is made, and says how much of it is missing: %s',
      async (expression) => {
        const { message } = await errorOf(expression);
        expect(message.length).toBeLessThanOrEqual(ERROR_MESSAGE_CHARS_MAX);
        expect(message).toMatch(/failed at character \d: x {3900,}… \(1,99\d,\d{3} characters left out\)$/);
      },
    );

    it.each(['$sum', 'function($x) { $x }', '{ "deep": [$sum] }', '1 / 0', '[$sqrt]'])(
      'refuses %s as a result: it is not JSON',
      async (expression) => {
        const error = await errorOf(expression);
        expect(error.code).toBe('EXPRESSION_FAILED');
        expect(error.message).toMatch(/JSON cannot hold/);
      },
    );

    it('refuses a result larger than the limit, also one that is small in memory', async () => {
      const scope = { input: { text: 'x'.repeat(INPUT_BYTES_MAX) } };
      expect((await errorOf('[1..9].($$.input.text)', scope)).message).toMatch(/larger than 8388608 bytes/);
      expect((await errorOf('$pad("", 9000000, "x")')).message).toMatch(/larger than 8388608 bytes/);
      expect(await resultOf('$length(([1..7].($$.input.text))[6])', scope)).toBe(INPUT_BYTES_MAX);
    });

    it('ends a recursion without an end, and allows a deep one', async () => {
      expect((await errorOf('($f := function($n) { 1 + $f($n + 1) }; $f(0))')).message).toMatch(/Stack overflow/);
      expect(await resultOf('($f := function($n) { $n = 0 ? 0 : 1 + $f($n - 1) }; $f(1000))')).toBe(1000);
    });

    it('disables $eval and says what to do', async () => {
      expect((await errorOf('$eval("1 + 1")')).message).toMatch(/\$eval is disabled/);
    });

    it('reaches nothing of JavaScript', async () => {
      for (const expression of ['a.constructor', '$constructor', 'a.__proto__', '$lookup(a, "constructor")']) {
        expect(await resultOf(expression, { a: {} })).toBeNull();
      }
    });

    it('leaves the scope as it was, and shares nothing with it', async () => {
      const scope = { input: { list: [3, 1, 2], one: [1] } };
      const before = structuredClone(scope);
      const [sorted, same, single] = await under.evaluator.evaluate([
        { expression: '$sort(input.list)', scope },
        { expression: 'input ~> |$|{"x": 1}|', scope },
        { expression: 'input.one[]', scope },
      ]);
      expect(sorted).toEqual({ value: [1, 2, 3] });
      expect(single).toEqual({ value: [1] });
      expect(scope).toEqual(before);
      if (!('value' in same!)) throw new Error('no value');
      expect(same.value).toEqual({ ...before.input, x: 1 });
      (same.value as { list: number[] }).list.push(9);
      expect(scope).toEqual(before);
    });

    it('checks expressions without evaluating them', async () => {
      const deep = '('.repeat(EXPRESSION_CHARS_MAX);
      const [fine, open, unknown, tooDeep] = await under.evaluator.check(['$error("not run")', 'a + ', '"x', deep]);
      expect(fine).toEqual({ names: [] });
      expect(open).toMatchObject({ problem: { message: expect.stringMatching(/end of expression/), position: 4 } });
      expect(unknown).toMatchObject({ problem: { message: expect.stringMatching(/quote/), position: 2 } });
      expect(tooDeep).toMatchObject({ problem: { message: 'it is nested too deeply' } });
      expect(await under.evaluator.check([])).toEqual([]);
    });
  });
}
