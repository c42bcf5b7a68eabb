/**
 * A YAML or JSON file with the places of its values, so that what is wrong with a value is shown where it stands:
 *
 *   word-count.yaml:7:5: steps[1].depends_onn: is not a known field (did you mean "depends_on"?)
 *     7 |     depends_onn: [count]
 *       |     ^
 */
import { readFile, stat } from 'node:fs/promises';
import {
  type Document,
  isMap,
  isPair,
  isSeq,
  LineCounter,
  type Node,
  type ParsedNode,
  parseDocument,
  type Scalar,
  visit,
} from 'yaml';
import { faultOf, faultText } from '../../dag/json.ts';
import { isInexact } from '../../dag/json-text.ts';
import { SUBMISSION_BYTES_MAX } from '../../dag/limits.ts';
import { UsageError } from './exit.ts';
import { mistakeIn } from './yaml-mistakes.ts';

/** Aliases that a document may expand to: more is an attack on memory, not a workflow. */
const ALIASES_MAX = 1_000;
/** Characters of a source line that are shown. */
const SHOWN_CHARS_MAX = 120;
const STDIN = '-';

export interface SourceDocument {
  /** As people name it: the path as given, or `stdin`. */
  name: string;
  value: unknown;
  /** `file:line:col` and the line itself for a path such as `steps[2].retry`; the nearest parent when it is missing. */
  locate(path: string): { place: string; excerpt: string } | undefined;
}

/**
 * Reads a file, or stdin for `-`. JSON is read as YAML, of which it is a part.
 *
 * @throws UsageError when it cannot be read, is too large, or its syntax is wrong (with the place and the line)
 */
export async function readDocument(path: string, stdin: NodeJS.ReadStream = process.stdin): Promise<SourceDocument> {
  const name = path === STDIN ? 'stdin' : path;
  const text = path === STDIN ? await readStream(stdin, name) : await readText(path);
  const lines = new LineCounter();
  const document = parse(name, text, lines);
  const show = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return { place: `${name}:${line}:${col}`, excerpt: excerptOf(text, line, col) };
  };
  const mistake = mistakeIn(document, text);
  if (mistake !== undefined) {
    const { place, excerpt } = show(mistake.offset);
    throw new UsageError(`${place}: ${mistake.message}\n${excerpt}`);
  }
  const locate = (place: string) => {
    const offset = offsetOf(document.contents, keysOf(place));
    return offset === undefined ? undefined : show(offset);
  };
  const value = valueIn(name, document);
  const fault = faultOf(value);
  if (fault === undefined) return { name, value, locate };
  const found = locate(fault.path);
  throw new UsageError(
    `${found?.place ?? name}: ${faultText(fault)}${found === undefined ? '' : `\n${found.excerpt}`}`,
  );
}

function parse(name: string, text: string, lineCounter: LineCounter): Document.Parsed {
  try {
    return parseDocument(text, { lineCounter, prettyErrors: false, uniqueKeys: true });
  } catch (cause) {
    throw unreadable(name, cause);
  }
}

function valueIn(name: string, document: Document.Parsed): unknown {
  try {
    visit(document, { Scalar: (_, scalar) => void keepExact(scalar) });
    return document.toJS({ maxAliasCount: ALIASES_MAX });
  } catch (cause) {
    throw unreadable(name, cause);
  }
}

/** The parser recurses: what is too deep for it is too deep for a workflow by far. */
function unreadable(name: string, cause: unknown): UsageError {
  if (cause instanceof RangeError) return new UsageError(`${name} is nested too deep; flatten it`, { cause });
  return new UsageError(`${name}: ${cause instanceof Error ? cause.message : cause}`, { cause });
}

/** An integer that a number would change becomes a bigint, which is refused with its place. */
function keepExact(scalar: Scalar): void {
  const { value, source } = scalar;
  if (typeof value !== 'number' || source === undefined || Number.isSafeInteger(value)) return;
  const digits = source.replace(/^\+/, '');
  const isHex = /^0(x[0-9a-f]+|o[0-7]+)$/i.test(digits);
  if (isHex ? BigInt(digits) !== BigInt(value) : isInexact(digits)) scalar.value = BigInt(digits);
}

async function readText(path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > SUBMISSION_BYTES_MAX) throw tooLarge(path);
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    const why =
      code === 'ENOENT'
        ? 'there is no such file'
        : code === 'EISDIR'
          ? 'it is a folder'
          : code === 'EACCES'
            ? 'permission denied'
            : (error as Error).message;
    throw new UsageError(`${path} cannot be read: ${why}`, { cause: error });
  }
}

async function readStream(stream: NodeJS.ReadStream, name: string): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    const buffer = Buffer.from(chunk);
    bytes += buffer.length;
    if (bytes > SUBMISSION_BYTES_MAX) throw tooLarge(name);
    chunks.push(buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function tooLarge(name: string): UsageError {
  return new UsageError(
    `${name} is larger than the ${SUBMISSION_BYTES_MAX / 2 ** 20} MiB that one submission may have`,
  );
}

function excerptOf(text: string, line: number, col: number): string {
  const source = (text.split('\n')[line - 1] ?? '').replace(/\r$/, '').replaceAll('\t', ' ');
  const start = Math.max(0, col - SHOWN_CHARS_MAX);
  const label = String(line);
  const gap = ' '.repeat(label.length);
  return `  ${label} | ${source.slice(start, start + SHOWN_CHARS_MAX)}\n  ${gap} | ${' '.repeat(col - 1 - start)}^`;
}

/** `steps[2].inputs["a b"]` as `['steps', 2, 'inputs', 'a b']`. */
function keysOf(place: string): (string | number)[] {
  const keys: (string | number)[] = [];
  for (const [, quoted, index, name] of place.matchAll(/\[("(?:[^"\\]|\\.)*")\]|\[(\d+)\]|([^.[\]]+)/g)) {
    if (quoted !== undefined) keys.push(JSON.parse(quoted) as string);
    else if (index !== undefined) keys.push(Number(index));
    else keys.push(name!);
  }
  return keys;
}

/** Where the value at `keys` stands; of a pair, where its key does. Follows as far as there is a node. */
function offsetOf(root: ParsedNode | Node | null, keys: (string | number)[]): number | undefined {
  let node: unknown = root;
  let offset = (root as Node | null)?.range?.[0];
  for (const key of keys) {
    if (isMap(node)) {
      const pair = node.items.find(
        (each) => isPair(each) && String((each.key as { value?: unknown })?.value ?? each.key) === String(key),
      );
      if (pair === undefined) return offset;
      offset = (pair.key as Node).range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      const item = node.items[Number(key)] as Node | undefined;
      if (item === undefined) return offset;
      offset = item.range?.[0] ?? offset;
      node = item;
    } else return offset;
  }
  return offset;
}
