/** Syntax of other languages in an expression, and what to write instead. */
import { type Token, tokenize } from './jsonata-tokens.ts';

/** Matched against an expression without spaces and without the contents of its strings; the first match counts. */
const OPERATORS: [pattern: RegExp, advice: string][] = [
  [/^\{\{|^\{.*\}$/, 'an expression is written ${ … }, with one brace'],
  [/!==/, '"!==" is written "!="'],
  [/===?/, '"==" and "===" are written "="'],
  [/&&/, '"&&" is written "and"'],
  [/\|\|/, '"||" is written "or"; for a value in the place of none or null, "?:"'],
  [/=>/, '"(x) => …" is written "function($x) { … }"'],
  [/\?\./, '"?." is written ".": what is not there gives nothing'],
  [/(^|[\s(,?:=&])!(?!=)/, '"!x" is written "$not(x)"'],
  [/function\((?!\$|\))/, 'parameters begin with $: "function($x) { … }"'],
  [/;$/, 'an expression does not end with ";"'],
];

/** Advice for an expression that JSONata cannot read, or null. */
export function foreignOperator(expression: string): string | null {
  const { tokens } = tokenize(`${expression}}`, 0);
  const words = tokens.map(wordOf).join('');
  return OPERATORS.find(([pattern]) => pattern.test(words))?.[1] ?? null;
}

function wordOf({ type, text }: Token): string {
  if (type === 'string') return '""';
  return /^(and|or)$/.test(text) ? ` ${text} ` : text;
}

/** The first `{{ … }}` in a text, or null: other template engines would fill it in, here it stays as it is. */
export function mustache(text: string): string | null {
  return /\{\{[^{}]*\}\}/.exec(text)?.[0] ?? null;
}
