/**
 * The names that an expression takes from its scope, read from JSONata's syntax tree. Which name means what depends on
 * where it stands: at the beginning of a path it is one of the scope; inside a predicate, after a dot, in a sort, a
 * grouping or a transform it is a field of the element at hand; after `$$` it is one of the scope again.
 */
import type { ScopeName } from '../../dag/scope.ts';

/** The parts of a node of JSONata's tree that can hold names. */
interface Node {
  type: string;
  value?: unknown;
  steps?: Node[];
  expressions?: Node[];
  expression?: Node;
  lhs?: Node | [Node, Node][];
  rhs?: Node;
  arguments?: Node[];
  procedure?: Node;
  body?: Node;
  condition?: Node;
  then?: Node;
  else?: Node;
  pattern?: Node;
  update?: Node;
  delete?: Node;
  terms?: { expression: Node }[];
  predicate?: Stage[];
  stages?: Stage[];
  group?: { lhs: [Node, Node][] };
  focus?: string;
  index?: string;
}

interface Stage {
  type: string;
  expr?: Node;
}

/** Names of one expression that are told of; those of one path that are. */
const NAMES_MAX = 1_000;
const PATH_NAMES_MAX = 16;

/** Without recursion: a sum of thousands of terms is a tree of as many levels. */
export function namesIn(tree: unknown): ScopeName[] {
  const walk = new Walk();
  walk.run(tree as Node);
  return walk.names;
}

class Walk {
  readonly #open: { node: Node; outer: boolean }[] = [];
  readonly #found = new Map<string, ScopeName>();
  /** The expression gives `$$` another meaning. */
  #rootIsBound = false;

  get names(): ScopeName[] {
    const all = [...this.#found.values()];
    return this.#rootIsBound ? [] : all;
  }

  run(tree: Node): void {
    this.#add(tree, true);
    for (let next = this.#open.pop(); next !== undefined; next = this.#open.pop()) this.#visit(next.node, next.outer);
  }

  #add(node: Node | undefined, outer: boolean): void {
    if (node !== undefined) this.#open.push({ node, outer });
  }

  #visit(node: Node, outer: boolean): void {
    if (node.type === 'path') this.#visitPath(node.steps ?? [], outer);
    else this.#visitParts(node, outer);
    this.#visitStages(node);
  }

  #visitParts(node: Node, outer: boolean): void {
    if (node.type === 'transform') {
      for (const part of [node.pattern, node.update, node.delete]) this.#add(part, false);
      return;
    }
    if (node.type === 'bind' && (node.lhs as Node).value === '$') this.#rootIsBound = true;
    if (node.type === 'lambda') {
      if (node.arguments?.some(({ value }) => value === '$')) this.#rootIsBound = true;
      this.#add(node.body, outer);
      return;
    }
    const called = calledName(node);
    if (called === undefined) this.#add(node.procedure, outer);
    else if (outer) this.#keep([called], 'call');
    for (const { expression } of node.terms ?? []) this.#add(expression, false);
    for (const part of [...(node.expressions ?? []), ...(node.arguments ?? [])]) this.#add(part, outer);
    for (const part of [node.expression, node.rhs, node.condition, node.then, node.else]) this.#add(part, outer);
    if (Array.isArray(node.lhs)) this.#addPairs(node.lhs, outer);
    else this.#add(node.lhs, outer);
  }

  #visitPath(steps: Node[], outer: boolean): void {
    const [first, ...rest] = steps as [Node, ...Node[]];
    const isRoot = first.type === 'variable' && (first.value === '$' || (first.value === '' && outer));
    const kind = isRoot || outer ? 'scope' : 'item';
    const path: string[] = [];
    // Of a path that begins otherwise, nobody knows what its names are fields of.
    let follows = isRoot || first.type === 'name' || (first.type === 'variable' && first.value === '');
    if (first.type === 'name') path.push(String(first.value));
    if (first.type === 'name' || first.type === 'variable') this.#visitStages(first);
    else this.#add(first, outer);
    if (first.focus !== undefined || first.index !== undefined) follows = false;
    for (const step of rest) {
      const called = calledName(step);
      if (follows && step.type === 'name') path.push(String(step.value));
      else if (follows && called !== undefined && kind === 'scope' && path.length > 0) {
        this.#keep([...path, called], 'call');
      }
      follows &&= step.type === 'name' && step.focus === undefined && step.index === undefined;
      // Whatever stands in a later step is about the elements before it.
      if (step.type === 'name') this.#visitStages(step);
      else this.#add(step, false);
    }
    if (path.length > 0) this.#keep(path, kind);
  }

  #visitStages(node: Node): void {
    for (const { expr } of [...(node.predicate ?? []), ...(node.stages ?? [])]) this.#add(expr, false);
    this.#addPairs(node.group?.lhs ?? [], false);
  }

  #addPairs(pairs: [Node, Node][], outer: boolean): void {
    for (const pair of pairs) for (const part of pair) this.#add(part, outer);
  }

  #keep(path: string[], kind: ScopeName['kind']): void {
    if (this.#found.size >= NAMES_MAX) return;
    const kept = path.length > PATH_NAMES_MAX ? path.slice(0, PATH_NAMES_MAX) : path;
    this.#found.set(`${kind} ${JSON.stringify(kept)}`, { path: kept, kind });
  }
}

/** The name in `name(…)`, which is no function of JSONata: those begin with `$`. */
function calledName(node: Node): string | undefined {
  const only =
    node.procedure?.type === 'path' && node.procedure.steps?.length === 1 ? node.procedure.steps[0] : undefined;
  return only?.type === 'name' ? String(only.value) : undefined;
}
