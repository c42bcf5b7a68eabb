/** Names and expressions of whoever made a mistake are repeated to them: enough to be found, and never all of a megabyte. */
import { describe, expect, it } from 'vitest';
import { parseWorkflow } from '../../dag/schema.ts';
import { nameProblem, type ScopeName } from '../../dag/scope.ts';
import { UnknownToolError } from '../../node/runtimes/errors.ts';
import { checkParts } from '../../scheduler/workflow/check-submission.ts';
import { parseInput } from '../../tools/call/envelope.ts';
import { InvalidInputError, PeerNotFoundError } from '../../tools/errors.ts';
import { tools } from '../../tools/registry.ts';

const LONG = 'x'.repeat(15_000);
const SENTENCE_CHARS_MAX = 1_000;
const step = (fields: object) => ({ name: 'w', steps: [{ step_id: 'a', action: 'echo', ...fields }] });

function submit(value: unknown): void {
  checkParts(parseWorkflow(value), 0);
}

/** As the check of a submitted workflow does for each name in an expression. */
function refuse(name: ScopeName): never {
  const place = { item: false, itemAdvice: '', stepIds: new Set<string>(), inputs: [] };
  throw new Error(nameProblem(name, place) ?? 'there is no problem');
}

describe('a sentence about a mistake is short, whatever was written', () => {
  it.each<[string, () => unknown]>([
    ['an unknown field', () => parseInput(tools.get('task_status')!, { task_id: 'a', [LONG]: 1 })],
    ['an unknown field of a step', () => submit(step({ [LONG]: 1 }))],
    [
      'a name that data cannot have',
      () => parseInput(tools.get('task_submit')!, { task_type: 'echo', payload: { [LONG]: { [LONG]: BigInt(1) } } }),
    ],
    ['a value of the wrong type', () => parseInput(tools.get('workflow_list')!, { limit: LONG })],
    ['a choice that there is not', () => parseInput(tools.get('workflow_list')!, { status_filter: LONG })],
    ['a step that there is not', () => submit(step({ depends_on: [LONG] }))],
    ['a step in an expression', () => submit(step({ inputs: { y: `\${ steps.${LONG}.output }` } }))],
    ['a condition that is no expression', () => submit(step({ when: LONG }))],
    ['an expression without an end', () => submit(step({ inputs: { y: `\${ ${LONG}` } }))],
    ['a name in an expression', () => refuse({ path: [LONG, LONG, LONG], kind: 'scope' })],
    ['a field of a step in an expression', () => refuse({ path: ['steps', LONG, LONG], kind: 'scope' })],
    ['a function in an expression', () => refuse({ path: [LONG], kind: 'call' })],
    ['a method in an expression', () => refuse({ path: ['input', LONG], kind: 'call' })],
    [
      'a tool',
      () => {
        throw new UnknownToolError(LONG);
      },
    ],
    [
      'a peer',
      () => {
        throw new PeerNotFoundError(LONG);
      },
    ],
  ])('%s', (_what, act) => {
    let error: Error | undefined;
    try {
      act();
    } catch (thrown) {
      error = thrown as Error;
    }
    expect(error).toBeInstanceOf(Error);
    expect(error!.message).toMatch(/xxx/);
    expect(error!.message.length).toBeLessThan(SENTENCE_CHARS_MAX);
    expect(error!.message).not.toContain('x'.repeat(600));
  });

  it('and names an id whole', () => {
    const id = 'i'.repeat(128);
    expect(() => submit(step({ depends_on: [id] }))).toThrow(`there is no step "${id}"`);
    const error = new InvalidInputError('t', [{ path: id, message: 'm' }]);
    expect(error.message).toContain(id);
  });
});
