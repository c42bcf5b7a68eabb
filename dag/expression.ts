/**
 * Expressions as a workflow uses them: the templates of a step, and the check that every step that an expression
 * mentions exists and has ended when the expression is evaluated.
 */
import type { JsonValue } from './errors.ts';
import type { WorkflowGraph } from './graph.ts';
import { didYouMean } from './nearest.ts';
import { PROBLEMS_MAX, type Problem, placeOf } from './problems.ts';
import { quoted } from './quoted.ts';
import { mentionsItem, referencedSteps } from './references.ts';
import type { Step } from './schema.ts';
import { compileTemplate, InvalidExpressionError, isOneExpression, type Template } from './template.ts';

export { resolvePath } from './path.ts';
export { compileTemplate, fillTemplate, InvalidExpressionError, isLiteralAt, type Template } from './template.ts';
export { referencedSteps };

export interface StepTemplates {
  /** One expression, or the literal true or false; see `holds`. */
  when?: Template;
  /** One expression that gives a list, or a list (whose items may hold expressions). */
  foreach?: Template;
  inputs: Template;
}

const compiled = new WeakMap<Step, StepTemplates>();

/**
 * The templates of a step, compiled once per step object.
 *
 * @param path the place of the step for error messages, e.g. `['steps', 2]`
 * @throws InvalidExpressionError; also when `when` or `foreach` is a string that is not exactly one `${ … }`
 */
export function templatesOf(
  step: Step,
  path: readonly (string | number)[] = [`step "${step.step_id}"`],
): StepTemplates {
  const known = compiled.get(step);
  if (known !== undefined) return known;
  const templates: StepTemplates = { inputs: compileTemplate(step.inputs, [...path, 'inputs']) };
  for (const field of ['when', 'foreach'] as const) {
    const value = step[field];
    if (value === undefined) continue;
    const template = compileTemplate(value, [...path, field]);
    if (typeof value === 'string' && !isOneExpression(template)) {
      const kind = field === 'when' ? 'true or false' : 'a list';
      throw new InvalidExpressionError(
        placeOf([...path, field]),
        `must be one expression, written \${ … }, or ${kind}, not ${quoted(value)}`,
      );
    }
    templates[field] = template;
  }
  compiled.set(step, templates);
  return templates;
}

/** True for a step whose `when` is decided for each of its items. */
export function decidesPerItem({ when, foreach }: StepTemplates): boolean {
  return foreach !== undefined && (when?.expressions.some(mentionsItem) ?? false);
}

/** The items of a `foreach` value: JSONata gives a single match without a list around it, and no match as nothing. */
export function itemsOf(value: JsonValue): JsonValue[] {
  if (Array.isArray(value)) return value;
  return value === null ? [] : [value];
}

/** Whether the value of `when` lets the step run: JSONata's `$boolean`, with false for null. */
export function holds(value: JsonValue): boolean {
  if (Array.isArray(value)) return value.length === 1 ? holds(value[0]!) : value.some(holds);
  if (value !== null && typeof value === 'object') return Object.keys(value).length > 0;
  return Boolean(value);
}

/**
 * The problems of the references in a step's expressions: the step must wait for every step that they mention.
 *
 * @param path the place of the step
 * @throws InvalidExpressionError for an expression that does not end
 */
export function referenceProblems(step: Step, path: readonly (string | number)[], graph: WorkflowGraph): Problem[] {
  const { when, foreach, inputs } = templatesOf(step, path);
  return [
    ...mistakesIn(when, step.step_id, graph),
    ...mistakesIn(foreach, step.step_id, graph),
    ...mistakesIn(inputs, step.step_id, graph, (at) => innerAdvice(step, path, at)),
  ];
}

/** The same for the workflow's output, which is evaluated at the end and may mention any step. */
export function outputReferenceProblems(output: Template, graph: WorkflowGraph): Problem[] {
  return mistakesIn(output, null, graph);
}

function mistakesIn(
  template: Template | undefined,
  step_id: string | null,
  graph: WorkflowGraph,
  advice = (_at: string) => '',
): Problem[] {
  const problems: Problem[] = [];
  for (const [expression, path] of template?.places ?? []) {
    const mentioned = referencedSteps(expression);
    if (mentioned === 'all') continue;
    for (const id of mentioned) {
      if (problems.length > PROBLEMS_MAX) return problems;
      const message = mistake(id, step_id, graph);
      if (message !== null) problems.push({ path, message: message + advice(path) });
    }
  }
  return problems;
}

/** The last words of an error about an expression that may have been meant for the nested workflow it stands in. */
export function innerAdvice(step: Step, path: readonly (string | number)[], at: string): string {
  const isInside = step.action === 'workflow' && at.startsWith(placeOf([...path, 'inputs', 'workflow']));
  return isInside ? '; an expression of the inner workflow is written $${ … }' : '';
}

/** What is wrong with mentioning step `id` in step `step_id` (null: in the workflow's output), or null. */
function mistake(id: string, step_id: string | null, graph: WorkflowGraph): string | null {
  if (!graph.has(id)) {
    // `steps.build-image` is "steps.build minus image" to JSONata.
    const cut = graph.order.find((known) => known.startsWith(id) && /^[-.]/.test(known.slice(id.length)));
    const hint = cut === undefined ? didYouMean(id, graph.order) : ` (write steps.\`${cut}\`, in backquotes)`;
    return `there is no step ${quoted(id)}${hint}`;
  }
  if (step_id === null || graph.dependsOn(step_id, id)) return null;
  if (step_id === id) return `a step cannot use its own output (steps.${id})`;
  return `mentions step "${id}", which may not have ended then; add "${id}" to depends_on of step "${step_id}"`;
}
