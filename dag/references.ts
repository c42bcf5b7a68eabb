/** Which steps an expression mentions, and whether it mentions the item of a `foreach`. */
import { type Token, tokenize } from './jsonata-tokens.ts';

/**
 * The ids of the steps an expression mentions as `steps.<id>` (or in backquotes, or through `$$`), in order of
 * appearance; `all` when it uses `steps`, or everything in scope, in a way that does not show which ones.
 */
export function referencedSteps(expression: string): string[] | 'all' {
  // The closing brace ends the reading as it does inside `${ … }`.
  const { tokens } = tokenize(`${expression}}`, 0);
  const contexts = new Contexts();
  const found = new Set<string>();
  for (const [index, token] of tokens.entries()) {
    const before = tokens[index - 1];
    contexts.read(token, before);
    const root = rootOf(token, tokens, index, contexts.outer);
    if (root === 'none') continue;
    if (root === 'all') return 'all';
    const id = fieldAfter(tokens, root);
    if (id === undefined) return 'all';
    found.add(id);
  }
  return [...found];
}

const ITEM_NAMES = new Set(['item', 'index']);

/** Whether the value can differ between the items of `foreach`: it uses `item`, `index` or everything in scope. */
export function mentionsItem(expression: string): boolean {
  const { tokens } = tokenize(`${expression}}`, 0);
  const contexts = new Contexts();
  return tokens.some((token, index) => {
    contexts.read(token, tokens[index - 1]);
    const afterDot = isOperator(tokens[index - 1], '.');
    if (token.type === 'variable') {
      const isRoot = token.text === '$$' || (token.text === '$' && contexts.outer && !afterDot);
      return isRoot && ITEM_NAMES.has(fieldAfter(tokens, index) ?? 'item');
    }
    if (!contexts.outer || afterDot) return false;
    if (token.type === 'string') return ITEM_NAMES.has(token.text) && isOperator(tokens[index + 1], '.');
    return token.type === 'name' && ITEM_NAMES.has(token.text);
  });
}

/**
 * What `token` has to do with `steps`: nothing (`none`), anything (`all`), or the index of the token that is the
 * name `steps` itself, taken from the whole scope.
 */
function rootOf(token: Token, tokens: Token[], index: number, outer: boolean): 'none' | 'all' | number {
  const afterDot = isOperator(tokens[index - 1], '.');
  if (token.type === 'variable') {
    if (token.text === '$eval') return 'all';
    const isRoot = token.text === '$$' || (token.text === '$' && outer && !afterDot);
    if (!isRoot) return 'none';
    const name = fieldAfter(tokens, index);
    if (name === undefined) return 'all';
    return name === 'steps' ? index + 2 : 'none';
  }
  if (!outer || afterDot) return 'none';
  // Wildcards at the start of a path, and the place that a transform changes.
  if (token.type === 'value' && /^[*%]/.test(token.text)) return 'all';
  if (isOperator(token, '|') && !token.afterValue) return 'all';
  if (token.type === 'name' && token.text === 'steps') return isOperator(tokens[index + 1], ':') ? 'all' : index;
  if (token.type === 'string' && token.text === 'steps' && isOperator(tokens[index + 1], '.')) return index;
  return 'none';
}

/** The name in `.name` after the token at `index`; JSONata takes a string there as a name. */
function fieldAfter(tokens: Token[], index: number): string | undefined {
  const name = tokens[index + 2];
  if (!isOperator(tokens[index + 1], '.') || name === undefined) return undefined;
  if (name.type === 'name') return name.text;
  return name.type === 'string' && !name.text.includes('\\') ? name.text : undefined;
}

function isOperator(token: Token | undefined, text: string): boolean {
  return token?.type === 'operator' && token.text === text;
}

/** Follows brackets: inside a predicate, a mapped block or a grouping, names are fields of the current element. */
class Contexts {
  /** True where names are still those of the scope. */
  outer = true;
  readonly #stack: { outer: boolean; signature: boolean }[] = [];
  /** The bracket closed last held the parameters of a function. */
  #signature = false;

  read(token: Token, before: Token | undefined): void {
    if (token.type !== 'operator') return;
    const { text } = token;
    if (text === '(' || text === '[' || text === '{') {
      const signature = text === '(' && before?.type === 'name' && (before.text === 'function' || before.text === 'λ');
      this.#stack.push({ outer: this.outer, signature });
      if (this.#changes(token, before)) this.outer = false;
    } else if (text === ')' || text === ']' || text === '}') {
      const closed = this.#stack.pop();
      this.outer = closed?.outer ?? true;
      this.#signature = closed?.signature ?? false;
    }
  }

  #changes(token: Token, before: Token | undefined): boolean {
    if (isOperator(before, '.') || isOperator(before, '^')) return true;
    if (token.text === '(' || !token.afterValue) return false;
    const body = token.text === '{' && isOperator(before, ')') && this.#signature;
    return !body;
  }
}
