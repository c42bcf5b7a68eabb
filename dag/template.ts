/**
 * `${ … }` in any JSON value: found once, filled as often as needed. The expressions themselves are evaluated
 * elsewhere.
 *
 *   const template = compileTemplate({ command: ['wc', '-w', '${ item }'] });
 *   template.expressions;                                   // ['item']
 *   fillTemplate(template, new Map([['item', 'a.txt']]));   // { command: ['wc', '-w', 'a.txt'] }
 */
import { FlowmeshError, type JsonValue } from './errors.ts';
import { tokenize } from './jsonata-tokens.ts';
import { EXPRESSION_CHARS_MAX, EXPRESSIONS_MAX, LimitError } from './limits.ts';
import { placeOf } from './problems.ts';

/** A `${ … }` that is empty or does not end, or a text where one expression is required. `details.place` says where. */
export class InvalidExpressionError extends FlowmeshError {
  readonly place: string;

  constructor(place: string, message: string) {
    super('INVALID_EXPRESSION', place === '' ? message : `${place}: ${message}`, { details: { place } });
    this.place = place;
  }
}

type Key = string | number;

type Node =
  | { kind: 'literal'; value: JsonValue }
  | { kind: 'expression'; expression: string }
  | { kind: 'text'; parts: (string | { expression: string })[] }
  | { kind: 'list'; items: Node[] }
  | { kind: 'object'; entries: [string, Node][] };

export interface Template {
  /** The distinct expressions, trimmed, in order of appearance. */
  readonly expressions: string[];
  /** Where each expression occurs first, written as in code: `inputs.command[2]`. */
  readonly places: ReadonlyMap<string, string>;
  readonly root: Node;
}

/**
 * `$${` stands for a literal `${`.
 *
 * @param value JSON; keys of objects are never templates
 * @param path the place of `value` for error messages, e.g. `['steps', 2, 'inputs']`
 * @throws InvalidExpressionError for a `${` that is empty or does not end
 * @throws LimitError for an expression longer than EXPRESSION_CHARS_MAX, or more than EXPRESSIONS_MAX of them
 */
export function compileTemplate(value: JsonValue, path: readonly (string | number)[] = []): Template {
  const places = new Map<string, string>();
  const root = compileNode(value, [...path], places);
  return { expressions: [...places.keys()], places, root };
}

/** True when the template is exactly one `${ … }`. */
export function isOneExpression(template: Template): boolean {
  return template.root.kind === 'expression';
}

/**
 * Visits the literal texts of a value, those outside its expressions, with their places.
 *
 * @param visit `path` changes after the call: copy it
 */
export function visitTexts(template: Template, path: readonly Key[], visit: VisitText): void {
  visitNodeTexts(template.root, [...path], visit);
}

/** The same for a JSON value, which has no expressions. */
export function visitValueTexts(value: JsonValue, path: readonly Key[], visit: VisitText): void {
  visitLiteralTexts(value, [...path], visit);
}

type VisitText = (text: string, path: readonly Key[]) => void;

function visitNodeTexts(node: Node, path: Key[], visit: VisitText): void {
  const inside = (key: Key, child: Node) => {
    path.push(key);
    visitNodeTexts(child, path, visit);
    path.pop();
  };
  if (node.kind === 'list') for (const [index, item] of node.items.entries()) inside(index, item);
  else if (node.kind === 'object') for (const [key, item] of node.entries) inside(key, item);
  else if (node.kind === 'text') {
    for (const part of node.parts) if (typeof part === 'string') visit(part, path);
  } else if (node.kind === 'literal') visitLiteralTexts(node.value, path, visit);
}

/** Copies nothing on its way: a literal may have as many values as an input. */
function visitLiteralTexts(value: JsonValue | undefined, path: Key[], visit: VisitText): void {
  if (typeof value === 'string') visit(value, path);
  if (value === null || typeof value !== 'object') return;
  const inside = (key: Key, child: JsonValue | undefined) => {
    path.push(key);
    visitLiteralTexts(child, path, visit);
    path.pop();
  };
  if (Array.isArray(value)) for (let index = 0; index < value.length; index++) inside(index, value[index]);
  else for (const key of Object.keys(value)) inside(key, value[key]);
}

/** True when nothing of the value at `path` comes from an expression. A missing place counts as literal. */
export function isLiteralAt(template: Template, path: readonly PropertyKey[]): boolean {
  let node: Node | undefined = template.root;
  for (const key of path) {
    if (node?.kind === 'list') node = node.items[Number(key)];
    else if (node?.kind === 'object') node = node.entries.find(([name]) => name === key)?.[1];
    else break;
  }
  return node === undefined || isFixed(node);
}

/** A list or object node can hold nothing but literals, too: when one of them was written with `$${`. */
function isFixed(node: Node): boolean {
  if (node.kind === 'list') return node.items.every(isFixed);
  if (node.kind === 'object') return node.entries.every(([, item]) => isFixed(item));
  return node.kind === 'literal';
}

/**
 * Replaces expressions by their values: a string that is one expression becomes its value as it is; in a longer
 * string, string values are inserted as they are, null and missing values as nothing, others as JSON. Parts without
 * expressions are shared with the template: treat the result as read-only.
 */
export function fillTemplate(template: Template, values: ReadonlyMap<string, JsonValue>): JsonValue {
  return fillNode(template.root, values);
}

/** @param path of the value: one list that all values share, so that a place costs nothing until it is needed */
function compileNode(value: JsonValue, path: Key[], places: Map<string, string>): Node {
  const inside = (key: Key, child: JsonValue): Node => {
    path.push(key);
    const node = compileNode(child, path, places);
    path.pop();
    return node;
  };
  if (typeof value === 'string') return compileString(value, path, places);
  if (value === null || typeof value !== 'object') return { kind: 'literal', value };
  if (Array.isArray(value)) {
    const items = value.map((item, index) => inside(index, item));
    return items.every(isLiteral) && items.every((item, index) => item.value === value[index])
      ? { kind: 'literal', value }
      : { kind: 'list', items };
  }
  const entries = Object.entries(value).map(([key, item]): [string, Node] => [key, inside(key, item)]);
  return entries.every(([key, node]) => isLiteral(node) && node.value === value[key])
    ? { kind: 'literal', value }
    : { kind: 'object', entries };
}

function isLiteral(node: Node): node is Extract<Node, { kind: 'literal' }> {
  return node.kind === 'literal';
}

function compileString(text: string, path: readonly (string | number)[], places: Map<string, string>): Node {
  const parts: (string | { expression: string })[] = [];
  let literal = '';
  let position = 0;
  while (position < text.length) {
    const dollar = text.indexOf('$', position);
    if (dollar < 0) break;
    literal += text.slice(position, dollar);
    if (text.startsWith('$${', dollar)) {
      literal += '${';
      position = dollar + 3;
    } else if (text.startsWith('${', dollar)) {
      const { expression, end } = readExpression(text, dollar, placeOf(path));
      if (!places.has(expression)) addExpression(places, expression, path);
      if (literal !== '') parts.push(literal);
      literal = '';
      parts.push({ expression });
      position = end;
    } else {
      literal += '$';
      position = dollar + 1;
    }
  }
  literal += text.slice(position);
  if (parts.length === 0) return { kind: 'literal', value: literal };
  if (literal !== '') parts.push(literal);
  const only = parts.length === 1 ? parts[0] : undefined;
  return typeof only === 'object' ? { kind: 'expression', expression: only.expression } : { kind: 'text', parts };
}

function addExpression(places: Map<string, string>, expression: string, path: readonly Key[]): void {
  const count = places.size + 1;
  if (count > EXPRESSIONS_MAX) {
    const what = `${placeOf(path.slice(0, 2))}: too many different expressions in one place`;
    throw new LimitError('EXPRESSIONS_MAX', count, EXPRESSIONS_MAX, what, 'Make the list with one expression.');
  }
  places.set(expression, placeOf(path));
}

const SHOWN_CHARS_MAX = 40;

function readExpression(text: string, start: number, place: string): { expression: string; end: number } {
  const { end } = tokenize(text, start + 2);
  const shown = text.slice(start, start + SHOWN_CHARS_MAX);
  if (end < 0) {
    throw new InvalidExpressionError(
      place,
      `the expression "${shown}" does not end; close it with "}" (a literal "\${" is written "$\${")`,
    );
  }
  const expression = text.slice(start + 2, end).trim();
  if (expression === '')
    throw new InvalidExpressionError(place, 'the expression is empty; write a path or JSONata in it');
  if (expression.length > EXPRESSION_CHARS_MAX) {
    throw new LimitError(
      'EXPRESSION_CHARS_MAX',
      expression.length,
      EXPRESSION_CHARS_MAX,
      `${place}: the expression is too long, in characters`,
      'Move the work into a step.',
    );
  }
  return { expression, end: end + 1 };
}

function fillNode(node: Node, values: ReadonlyMap<string, JsonValue>): JsonValue {
  switch (node.kind) {
    case 'literal':
      return node.value;
    case 'expression':
      return values.get(node.expression) ?? null;
    case 'text':
      return node.parts.map((part) => (typeof part === 'string' ? part : asText(values.get(part.expression)))).join('');
    case 'list':
      return node.items.map((item) => fillNode(item, values));
    case 'object':
      return Object.fromEntries(node.entries.map(([key, item]) => [key, fillNode(item, values)]));
  }
}

function asText(value: JsonValue | undefined): string {
  if (typeof value === 'string') return value;
  return value === undefined || value === null ? '' : JSON.stringify(value);
}
