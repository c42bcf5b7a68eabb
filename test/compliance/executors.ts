/** What every Executors promises (scheduler/ports.ts), whatever its actions are made of. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { CANCEL_GRACE_MS } from '../../scheduler/limits.ts';
import type { Executors } from '../../scheduler/ports.ts';
import { RecordedIO, requestOf } from '../executors/recorded-io.ts';

/** Beside `echo`, the implementation brings an action for each of these. */
export interface ExecutorsUnderTest {
  executors: Executors;
  actions: {
    /** Calls progress(40, 'half'), logs `first` and `second`, and gives `{ uid, attempt }` of its request. */
    reports: string;
    /** Fails with a message that contains `payload.message`; retryable as `payload.retryable` says. */
    fails: string;
    /** Logs `waiting`, then waits until it is aborted, and ends then. */
    waits: string;
    /** Logs `waiting`, then never ends and does not heed its signal. */
    ignores: string;
  };
  /** What the graces of aborts are measured on. */
  now(): number;
  /** How much later than promised its ends may be told of: 0 where time is simulated. */
  slackMs: number;
  cleanup(): Promise<void>;
}

export function executorsCompliance(name: string, setup: () => Promise<ExecutorsUnderTest>): void {
  describe(name, () => {
    let under: ExecutorsUnderTest;
    beforeAll(async () => {
      under = await setup();
    });
    afterAll(() => under.cleanup());

    const run = (action: string, payload: JsonObject = {}, io = new RecordedIO()) =>
      under.executors.run(requestOf(action, payload), io);
    const failureOf = async (promise: Promise<unknown>): Promise<FlowmeshError> => {
      const error = await promise.then(
        () => null,
        (cause: unknown) => cause,
      );
      expect(error).toBeInstanceOf(FlowmeshError);
      return error as FlowmeshError;
    };

    it('lists its actions, each once', () => {
      const actions = under.executors.actions();
      expect(actions).toEqual(expect.arrayContaining(['echo', ...Object.values(under.actions)]));
      expect(new Set(actions).size).toBe(actions.length);
    });

    it('gives the payload of echo back, as a copy', async () => {
      const payload = { a: [1, { b: null }], text: 'ä' };
      const output = await run('echo', payload);
      expect(output).toEqual(payload);
      (output as typeof payload).a.push(2);
      expect(payload.a).toHaveLength(2);
    });

    it('rejects an action it has not, once and for all', async () => {
      const error = await failureOf(run('no-such-action'));
      expect(error).toMatchObject({ code: 'UNKNOWN_ACTION', retryable: false });
      expect(error.message).toContain('no-such-action');
      expect(error.message).toContain('echo');
    });

    it('hands on uid, attempt, progress and log before the run ends', async () => {
      const io = new RecordedIO();
      expect(await run(under.actions.reports, {}, io)).toEqual({ uid: 'w1/step/0', attempt: 3 });
      expect(io.progresses).toEqual([[40, 'half']]);
      expect(io.lines.map(([, line]) => line)).toEqual(['first', 'second']);
    });

    it.each([true, false])('keeps retryable %s of a failure', async (retryable) => {
      const error = await failureOf(run(under.actions.fails, { message: 'no paper', retryable }));
      expect(error.retryable).toBe(retryable);
      expect(error.message).toContain('no paper');
    });

    it('runs nothing when it is aborted already', async () => {
      const io = new RecordedIO();
      io.abort(false);
      expect(await failureOf(run(under.actions.waits, {}, io))).toMatchObject({ code: 'ABORTED' });
      expect(io.lines).toEqual([]);
    });

    it('ends an aborted run that heeds its signal before the grace time is over', async () => {
      const io = new RecordedIO();
      const ended = failureOf(run(under.actions.waits, {}, io));
      await io.logged('waiting');
      const start = under.now();
      io.abort(false);
      expect(await ended).toMatchObject({ code: 'ABORTED' });
      expect(under.now() - start).toBeLessThan(CANCEL_GRACE_MS + under.slackMs);
    });

    it('ends an aborted run that does not, after the grace time', async () => {
      const io = new RecordedIO();
      const ended = failureOf(run(under.actions.ignores, {}, io));
      await io.logged('waiting');
      const start = under.now();
      io.abort(false);
      expect(await ended).toMatchObject({ code: 'ABORTED' });
      expect(under.now() - start).toBeGreaterThanOrEqual(CANCEL_GRACE_MS - 20);
      expect(under.now() - start).toBeLessThan(CANCEL_GRACE_MS + 20 + under.slackMs);
    });

    it('ends a run without grace time when it is forced', async () => {
      const io = new RecordedIO();
      const ended = failureOf(run(under.actions.ignores, {}, io));
      await io.logged('waiting');
      const start = under.now();
      io.abort(true);
      expect(await ended).toMatchObject({ code: 'ABORTED' });
      expect(under.now() - start).toBeLessThan(CANCEL_GRACE_MS + under.slackMs);
    });

    it('runs many at once, each with its own output', async () => {
      const outputs = await Promise.all(Array.from({ length: 100 }, (_, n) => run('echo', { n })));
      expect(outputs).toEqual(Array.from({ length: 100 }, (_, n) => ({ n })));
    });
  });
}
