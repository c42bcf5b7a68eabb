/**
 * Rows are all there is: at any moment the rows on the disk make the run that is in memory, and a peer that crashes
 * at any moment comes to the same end as one that does not.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FlowmeshError, type JsonObject, type JsonValue } from '../../../dag/errors.ts';
import { WorkflowGraph } from '../../../dag/graph.ts';
import { parseWorkflow } from '../../../dag/schema.ts';
import { isTerminal, type WorkflowRecord } from '../../../scheduler/records.ts';
import { liveRun, replay } from '../../../scheduler/workflow/live-run.ts';
import { MemoryStore } from '../../simulation/memory-store.ts';
import { SlowEvaluator } from '../../simulation/slow-evaluator.ts';
import { Scene, workflow } from '../scene.ts';

const RUNS = 150;
const EVALUATION_MS = 7;

const stepParts = fc.record({
  dependsOn: fc.nat(63),
  when: fc.constantFrom(undefined, undefined, undefined, '${ input.yes }', '${ 1 > 2 }', '${ $not(input.no) }'),
  foreach: fc.constantFrom(undefined, undefined, '${ input.list }', '${ [1..4] }', '${ [] }', '${ input.no }'),
  perItem: fc.constantFrom(undefined, undefined, '${ item != "b" }', '${ index = 0 }', '${ $$.item = input.n }'),
  maxParallel: fc.constantFrom(undefined, 1, 2),
  ms: fc.constantFrom(0, 5, 30),
  fails: fc.constantFrom(false, false, false, false, true),
  value: fc.constantFrom('${ input.n }', '${ input.n * 2 }', '${ index }', '${ $error("no value") }'),
  on_failure: fc.constantFrom('fail', 'skip', 'continue'),
  max_retries: fc.constantFrom(0, 1),
});

const workflows = fc
  .record({
    steps: fc.array(stepParts, { minLength: 1, maxLength: 6 }),
    output: fc.constantFrom(undefined, '${ $keys(steps) }', { list: '${ input.list }', errors: '${ steps.*.error }' }),
  })
  .map(({ steps, output }): JsonObject => {
    const made = steps.map((step, at): JsonObject => {
      const value = step.foreach === undefined ? step.value.replace('index', 'input.n') : step.value;
      const when = step.foreach === undefined ? step.when : (step.perItem ?? step.when);
      const depends_on = steps.slice(0, at).flatMap((_each, id) => ((step.dependsOn >> id) & 1 ? [`s${id}`] : []));
      return {
        step_id: `s${at}`,
        action: 'fn:step',
        depends_on,
        inputs: { ms: step.ms, fails: step.fails, value },
        on_failure: step.on_failure,
        retry: { max_retries: step.max_retries, initial_delay_ms: 3, jitter: false },
        ...(when !== undefined && { when }),
        ...(step.foreach !== undefined && { foreach: step.foreach }),
        ...(step.maxParallel !== undefined && { max_parallel: step.maxParallel }),
      };
    });
    const input = { n: 3, yes: true, no: false, list: ['a', 'b', 'c'] };
    return { name: 'w', input, steps: made, ...(output !== undefined && { output }) };
  });

/** `last` is announced as a task, and its inputs are being evaluated, when the run stops. */
const STOPS_WHILE_EVALUATING: JsonObject = {
  name: 'w',
  input: { n: 3 },
  steps: [
    step('first', { foreach: '${ [1..4] }', value: '${ $error("no value") }' }),
    step('second', { when: '${ 1 < 2 }', foreach: '${ $error("no list") }' }),
    step('last', { value: '${ input.n * 2 }' }),
  ],
};

function step(step_id: string, { value = 1, ...given }: JsonObject): JsonObject {
  return { step_id, action: 'fn:step', inputs: { ms: 0, value }, ...given };
}

/** One peer whose commits are on the disk at once. `fn:step` takes `ms`, and fails when it `fails`. */
async function open(): Promise<Scene> {
  const evaluator = new SlowEvaluator();
  const scene: Scene = new Scene({
    evaluator,
    actions: {
      'fn:step': async ({ payload }, { signal }): Promise<JsonValue> => {
        await new Promise<void>((resolve, reject) => {
          const cancel = scene.world.at(Number(payload['ms']), resolve);
          signal.addEventListener('abort', () => {
            cancel();
            reject(new FlowmeshError('ABORTED', 'ended before its time', { retryable: true }));
          });
        });
        if (payload['fails'] === true) throw new FlowmeshError('BROKEN', 'it fails', { retryable: true });
        return payload['value']!;
      },
    },
  });
  evaluator.pause = () => new Promise((resolve) => scene.world.at(EVALUATION_MS, resolve));
  await scene.run(scene.mesh.start('a', { slots: 3, store: new MemoryStore() }));
  return scene;
}

async function outcome(scene: Scene, uid: string): Promise<Pick<WorkflowRecord, 'status' | 'result'>> {
  const { status, result } = await scene.endedWorkflow('a', uid);
  expect(scene.feed('a').tasks.live.size).toBe(0);
  expect(scene.feed('a').runs.live.size).toBe(0);
  const rows = await scene.peer('a').store.reader.children('task', uid);
  for (const row of rows) expect(isTerminal(row.status)).toBe(true);
  const steps = await scene.peer('a').store.reader.children('step', uid);
  for (const row of steps) expect(row.ended_at).not.toBeNull();
  return { status, result };
}

const isOpen = ({ status }: { status: string }) => status === 'running';

/** What the rows make of a run. */
async function fromRows(scene: Scene, uid: string) {
  const { reader } = scene.peer('a').store;
  const record = (await reader.get('workflow', uid))!;
  const definition = (await reader.get('definition', `${uid}:definition`))!.workflow;
  const live = liveRun(record, definition, new WorkflowGraph(definition.steps), 0);
  replay(live, await reader.children('step', uid), await reader.children('task', uid));
  return live.run;
}

test('at any moment the rows make the run that is in memory', async () => {
  await fc.assert(
    fc.asyncProperty(workflows, fc.array(fc.nat(20), { minLength: 1, maxLength: 12 }), async (value, pauses) => {
      const scene = await open();
      const { uid } = await scene.submitWorkflow('a', value);
      for (const pause of pauses) {
        await scene.pass(pause + 0.5);
        const live = scene.feed('a').runs.live.get(uid);
        if (live === undefined) break;
        const replayed = await fromRows(scene, uid);
        const steps = parseWorkflow(value).steps.map(({ step_id }) => step_id);
        for (const step_id of steps) {
          const { issued, ended, failed, ...inMemory } = live.run.step(step_id);
          const known = replayed.step(step_id);
          // Of a run that stops, only what has rows still has to end.
          if (live.run.stopped && isOpen(inMemory) && known.issued < issued) continue;
          expect([step_id, known]).toMatchObject([
            step_id,
            { ...inMemory, ...(isOpen(inMemory) && { error: known.error }) },
          ]);
          // An item whose inputs are being evaluated, or could not be, has no row while its step runs.
          if (isOpen(inMemory)) expect([known.ended <= ended, known.failed <= failed]).toEqual([true, true]);
          if (isOpen(inMemory) && known.issued === issued) expect([known.ended, known.failed]).toEqual([ended, failed]);
        }
        expect(replayed.stopped).toBe(live.run.stopped);
      }
    }),
    { numRuns: RUNS, examples: [[STOPS_WHILE_EVALUATING, [1, 4, 1, 4, 1, 4]]] },
  );
});

test('a peer that crashes at any moment comes to the same end', async () => {
  await fc.assert(
    fc.asyncProperty(workflows, fc.array(fc.nat(40), { minLength: 1, maxLength: 3 }), async (value, crashes) => {
      const calm = await open();
      const expected = await outcome(calm, (await calm.submitWorkflow('a', value)).uid);
      const scene = await open();
      const { uid } = await scene.submitWorkflow('a', value);
      for (const after of crashes) {
        await scene.pass(after);
        await scene.restart('a');
      }
      expect(await outcome(scene, uid)).toEqual(expected);
    }),
    { numRuns: RUNS },
  );
});

test('a cancel at any moment, and a crash after it, leave a cancelled workflow and nothing that runs', async () => {
  await fc.assert(
    fc.asyncProperty(workflows, fc.nat(60), fc.nat(10), async (value, after, crash) => {
      const scene = await open();
      const { record } = await scene.run(scene.scheduler('a').api.submitWorkflow(workflow(value)));
      await scene.pass(after);
      const cancelled = await scene
        .run(scene.scheduler('a').api.cancelWorkflow(record.uid, { reason: undefined, force: true }))
        .then(
          () => true,
          () => false, // it had ended
        );
      const started = scene.mesh.ledger.length;
      await scene.pass(crash);
      await scene.restart('a');
      const { status } = await outcome(scene, record.uid);
      if (!cancelled) return;
      expect(status).toBe('cancelled');
      expect(scene.mesh.ledger.length).toBe(started);
    }),
    { numRuns: RUNS },
  );
});
