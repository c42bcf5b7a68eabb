/**
 * The tokens of a JSONata expression: enough to find where it ends inside a string and which steps it mentions.
 * JSONata alone decides whether the expression is valid.
 */

export interface Token {
  /**
   * `name`: a field; `string`: its content; `variable`: with its `$`; `value`: a number, a regular expression or a
   * wildcard in the place of a value; `operator`: everything else.
   */
  type: 'name' | 'string' | 'variable' | 'value' | 'operator';
  text: string;
  /** True when a value ended just before: `[` after one is a predicate, else it is a list. */
  afterValue: boolean;
}

const TWO_CHARS = new Set(['..', ':=', '!=', '>=', '<=', '**', '~>', '?:', '??']);
const ONE_CHAR = new Set('.[]{}(),@#;:?+-*/%|=<>^&!~');
const WORD_OPERATORS = new Set(['and', 'or', 'in']);
const WILDCARDS = new Set(['*', '**', '%']);
const SPACE = new Set(' \t\n\r\v');
const NUMBER = /(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[Ee][-+]?[0-9]+)?/y;

/**
 * Reads tokens from `start` up to the `}` that closes a brace opened before `start`, or to the end.
 *
 * @returns `end`: the place of that `}`, or -1 when there is none (or a string or comment does not end)
 */
export function tokenize(text: string, start: number): { tokens: Token[]; end: number } {
  const tokens: Token[] = [];
  let position = start;
  let braces = 0;
  let afterValue = false;
  const add = (type: Token['type'], content: string, end: number, value: boolean): void => {
    tokens.push({ type, text: content, afterValue });
    afterValue = value;
    position = end;
  };
  while (position < text.length) {
    const char = text[position]!;
    if (SPACE.has(char)) {
      position += 1;
    } else if (text.startsWith('/*', position)) {
      const close = text.indexOf('*/', position + 2);
      if (close < 0) return { tokens, end: -1 };
      position = close + 2;
    } else if (char === '"' || char === "'") {
      const end = endOfString(text, position);
      if (end < 0) return { tokens, end: -1 };
      add('string', text.slice(position + 1, end - 1), end, true);
    } else if (char === '`') {
      const close = text.indexOf('`', position + 1);
      if (close < 0) return { tokens, end: -1 };
      add('name', text.slice(position + 1, close), close + 1, true);
    } else if (char === '/' && !afterValue) {
      const end = endOfRegex(text, position);
      if (end < 0) return { tokens, end: -1 };
      add('value', text.slice(position, end), end, true);
    } else if (ONE_CHAR.has(char)) {
      if (char === '}' && braces === 0) return { tokens, end: position };
      if (char === '{') braces += 1;
      if (char === '}') braces -= 1;
      const two = text.slice(position, position + 2);
      const operator = TWO_CHARS.has(two) ? two : char;
      const wildcard = WILDCARDS.has(operator) && !afterValue;
      const closing = operator === ')' || operator === ']' || operator === '}';
      add(wildcard ? 'value' : 'operator', operator, position + operator.length, wildcard || closing);
    } else {
      addWord(text, position, afterValue, add);
    }
  }
  return { tokens, end: -1 };
}

function addWord(
  text: string,
  position: number,
  afterValue: boolean,
  add: (type: Token['type'], content: string, end: number, value: boolean) => void,
): void {
  NUMBER.lastIndex = position;
  const number = NUMBER.exec(text);
  if (number !== null) {
    add('value', number[0], position + number[0].length, true);
    return;
  }
  let end = position + 1;
  while (end < text.length && !SPACE.has(text[end]!) && !ONE_CHAR.has(text[end]!)) end += 1;
  const word = text.slice(position, end);
  if (word.startsWith('$')) add('variable', word, end, true);
  else if (afterValue && WORD_OPERATORS.has(word)) add('operator', word, end, false);
  else add('name', word, end, true);
}

/** The place after the closing quote, or -1. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at += 1) {
    if (text[at] === '\\') at += 1;
    else if (text[at] === text[start]) return at + 1;
  }
  return -1;
}

/** The place after the closing slash, or -1. As JSONata does, a slash inside brackets does not close. */
function endOfRegex(text: string, start: number): number {
  let depth = 0;
  for (let at = start + 1; at < text.length; at += 1) {
    const char = text[at]!;
    if (char === '\\') at += 1;
    else if (char === '/' && depth === 0) return at + 1;
    else if ('([{'.includes(char)) depth += 1;
    else if (')]}'.includes(char)) depth -= 1;
  }
  return -1;
}
