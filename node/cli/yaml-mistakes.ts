/** What is wrong with the syntax of a YAML file, and what to write instead. */
import { type Document, isScalar, visit, type YAMLError } from 'yaml';

/** `offset`: the character that the mistake is at. */
export interface Mistake {
  offset: number;
  message: string;
}

const SECOND_DOCUMENT =
  'a second document begins here (after "---"), and a file is one workflow; put this one into a file of its own';
const QUOTE_EXPRESSION = 'write an expression in quotes: "${ … }"';
const QUOTE_COLON = 'a value with ": " in it is written in quotes: "Deploy: now"';

/** The first mistake, or undefined. Also of what YAML allows and nobody means: a tag or a map in the place of a text. */
export function mistakeIn(document: Document.Parsed, text: string): Mistake | undefined {
  const [error] = document.errors;
  if (error !== undefined) {
    if (error.code === 'MULTIPLE_DOCS') return { offset: error.pos[0], message: SECOND_DOCUMENT };
    const advice = adviceFor(error, text);
    const message = advice === null ? sentence(error.message) : `${sentence(error.message)}; ${advice}`;
    return { offset: error.pos[0], message };
  }
  const tag = document.warnings.find(({ code }) => code === 'TAG_RESOLVE_FAILED');
  if (tag !== undefined) {
    return { offset: tag.pos[0], message: 'a value that begins with "!" is read as a tag; write it in quotes' };
  }
  return keyThatIsNoText(document);
}

function adviceFor({ code, pos }: YAMLError, text: string): string | null {
  const line = lineAt(text, pos[0]);
  if (code === 'BLOCK_AS_IMPLICIT_KEY' || code === 'BLOCK_IN_FLOW') {
    return line.includes('${') ? QUOTE_EXPRESSION : QUOTE_COLON;
  }
  if (code === 'BAD_SCALAR_START') return 'write the value in quotes';
  const isBroken = code === 'UNEXPECTED_TOKEN' || code === 'MISSING_CHAR';
  return isBroken && /(?<!["'].*)\$\{/.test(line) ? `inside { } and [ ] ${QUOTE_EXPRESSION}` : null;
}

/** `{{ x }}` is a map whose key is a map. */
function keyThatIsNoText(document: Document.Parsed): Mistake | undefined {
  let found: Mistake | undefined;
  visit(document, {
    Pair(_index, { key }) {
      if (key === null || isScalar(key) || found !== undefined) return;
      const range = (key as { range?: [number, number, number] | null }).range;
      found = {
        offset: range?.[0] ?? 0,
        message: `the name of a field is a text, and here it is a list or an object; ${QUOTE_EXPRESSION}`,
      };
    },
  });
  return found;
}

function lineAt(text: string, offset: number): string {
  return text.slice(text.lastIndexOf('\n', offset - 1) + 1).split('\n', 1)[0]!;
}

/** The parser's message without its own excerpt, which is shown in another form. */
function sentence(message: string): string {
  const first = message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '');
  return first.charAt(0).toLowerCase() + first.slice(1);
}
