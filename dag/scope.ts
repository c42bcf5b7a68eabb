/**
 * Which names expressions may use. JSONata gives nothing for an unknown name, so a slip would go unnoticed: each name
 * that an expression takes from the scope is checked before the workflow is accepted.
 */
import { didYouMean, nearest } from './nearest.ts';
import { cut } from './quoted.ts';

/** A name at the beginning of a path, with the fields that the path goes on to: `steps`, `a`, `output`. */
export interface ScopeName {
  path: string[];
  /**
   * `scope`: the name is taken from the scope. `item`: the name is a field of the current element, inside a predicate
   * or after a dot. `call`: the last name of the path is called as a function.
   */
  kind: 'scope' | 'item' | 'call';
}

/** Where an expression stands. */
export interface ExpressionPlace {
  /** Whether `item` and `index` are in scope: in `when` and `inputs` of a step with `foreach`. */
  item: boolean;
  /** Why `item` and `index` are not in scope, for the error. */
  itemAdvice: string;
  stepIds: { has(id: string): boolean };
  /** Fields of the workflow's input. */
  inputs: readonly string[];
}

const NAMES = ['input', 'steps', 'workflow'];
const ITEM_NAMES = ['item', 'index'];
const STEP_FIELDS = ['output', 'status', 'error'];
const WORKFLOW_FIELDS = ['workflow_id', 'name'];

/** What JSONata has in place of methods and properties of other languages. */
const INSTEAD: Record<string, string> = {
  length: '$count(list) for a list, $length(text) for a text',
  map: '$map(list, function($x) { … })',
  filter: 'list[condition]',
  reduce: '$reduce(list, function($sum, $x) { … })',
  forEach: '$map(list, function($x) { … })',
  find: 'list[condition][0]',
  includes: '"x" in list, or $contains(text, "x")',
  join: '$join(list, ",")',
  split: '$split(text, ",")',
  slice: 'list[[0..9]], or $substring(text, 0, 10)',
  substring: '$substring(text, 0, 10)',
  toUpperCase: '$uppercase(text)',
  toLowerCase: '$lowercase(text)',
  trim: '$trim(text)',
  replace: '$replace(text, "a", "b")',
  startsWith: '$substring(text, 0, 3) = "abc"',
  concat: '$append(list, list)',
  push: '$append(list, value)',
  keys: '$keys(object)',
  sort: '$sort(list)',
  reverse: '$reverse(list)',
  toString: '$string(value)',
  toFixed: '$formatNumber(value, "0.00")',
};
const FUNCTIONS = [
  ...['sum', 'count', 'max', 'min', 'average', 'string', 'length', 'substring', 'contains', 'split', 'join', 'match'],
  ...['replace', 'trim', 'uppercase', 'lowercase', 'number', 'floor', 'ceil', 'round', 'abs', 'boolean', 'not'],
  ...['exists', 'append', 'sort', 'reverse', 'distinct', 'zip', 'keys', 'lookup', 'merge', 'map', 'filter', 'reduce'],
  ...['single', 'each', 'sift', 'type', 'now', 'millis', 'fromMillis', 'toMillis', 'formatNumber', 'parseInteger'],
];

/** The names of a plain path such as `input.a.b`, which needs no parser; undefined for any other expression. */
export function namesOfPath(expression: string): ScopeName[] | undefined {
  if (!/^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$/.test(expression)) return undefined;
  const path = expression.split('.');
  return NOT_NAMES.has(path[0]!) ? undefined : [{ path, kind: 'scope' }];
}

const NOT_NAMES = new Set(['true', 'false', 'null', 'and', 'or', 'in', 'function']);

/** Why the name is refused, or null. Ids of steps are checked elsewhere, with `depends_on` (`referenceProblems`). */
export function nameProblem({ path, kind }: ScopeName, place: ExpressionPlace): string | null {
  const [name, second, third] = path.map((each) => cut(each)) as [string, string?, string?];
  if (kind === 'item') return null;
  if (kind === 'call') return callProblem(path);
  if (ITEM_NAMES.includes(name)) return place.item ? null : `"${name}" is not in scope here: ${place.itemAdvice}`;
  if (name === 'workflow') return fieldProblem('workflow', second, WORKFLOW_FIELDS);
  if (name === 'steps') return fieldProblem(`steps.${second}`, third, STEP_FIELDS);
  if (name === 'input') return null;
  if (place.stepIds.has(path[0]!)) return `"${name}" is not in scope; the output of that step is steps.${name}.output`;
  const known = place.item ? [...NAMES, ...ITEM_NAMES] : NAMES;
  const hint = didYouMean(name, known) || `; a text is written in quotes: "${name}"`;
  return `"${name}" is not in scope${hint}; in scope are ${known.join(', ')}`;
}

function callProblem(path: readonly string[]): string {
  const name = cut(path.at(-1)!);
  if (path.length > 1) {
    const instead = Object.hasOwn(INSTEAD, name) ? INSTEAD[name] : `$${name}(…), if it is a function of JSONata`;
    return `".${name}(…)" is not a function: JSONata has no methods; write ${instead}`;
  }
  const meant = nearest(name, FUNCTIONS);
  return `"${name}(…)" is not a function: names of functions begin with $${meant === undefined ? '' : ` (did you mean "$${meant}"?)`}`;
}

function fieldProblem(of: string, field: string | undefined, known: readonly string[]): string | null {
  if (field === undefined || known.includes(field)) return null;
  return `${of} has no "${field}"${didYouMean(field, known)}; it has ${known.join(', ')}`;
}

/** A warning about a name that is allowed and probably not what was meant, or null. */
export function nameWarning({ path, kind }: ScopeName, place: ExpressionPlace): string | null {
  const [name, second] = path as [string, string?];
  if (path.length > 1 && path.at(-1) === 'length' && kind !== 'call') {
    return `".length" is a field of that name; for how many there are write ${INSTEAD['length']}`;
  }
  if (kind !== 'item') return null;
  const isMeant =
    (place.item && ITEM_NAMES.includes(name)) ||
    (name === 'input' && second !== undefined && place.inputs.includes(second)) ||
    (name === 'steps' && second !== undefined && place.stepIds.has(second));
  if (!isMeant) return null;
  return `inside [ ], { } or after a dot "${name}" is a field of the element at hand; write $$.${name} for what is in scope under that name`;
}
