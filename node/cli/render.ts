/**
 * A tool's output for people: the list that its definition names as a table, everything else as `name  value` lines.
 *
 *   PEER ID   NAME    STATUS     LATENCY
 *   12D3KooW… peer-2  connected  0.41 ms
 *
 *   1 of 1
 */
import Table from 'cli-table3';
import stringWidth from 'string-width';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import type { Tool } from '../../tools/definition.ts';
import { printable, printableJson } from '../printable.ts';
import { cell, isPlain, paint } from './cells.ts';

/** What a page says about itself; shown in the last line instead. */
const PAGE_FIELDS = new Set(['success', 'total_count', 'returned_count', 'has_more']);
/** Values that users made; shown as they are. */
const DATA_FIELDS = new Set(['result', 'output', 'outputs', 'metadata', 'payload', 'data']);
const TAB = '\t';
/** What a text of several lines keeps. */
const LINES = `\n${TAB}`;
const GAP = 2;
/** A column is cut to this before whole columns are left out. */
const CUT_CHARS_MIN = 18;
const COLUMNS_MIN = 2;
const LIST_COMMA = ', ';
/** Columns whose values other commands take. */
const IDS = /(_ids?|^peers|multiaddrs)$/;
const PEER_ID = /^(12D3KooW|16Uiu2|Qm)\w{30,}$/;
const PEER_ID_TAIL_CHARS = 8;

/** @param width columns of the terminal; undefined where output goes elsewhere: then nothing is shortened */
export function renderOutput(tool: Pick<Tool, 'cli' | 'name'>, output: JsonObject, width: number | undefined): string {
  // A drawing is for another program: nothing else may stand beside it.
  if (tool.name === 'workflow_dependencies' && typeof output['dag'] === 'string')
    return printable(output['dag'], LINES);
  const list = tool.cli?.list;
  const rows = list === undefined ? undefined : output[list.field];
  const shownAsTable = Array.isArray(rows) ? list!.field : undefined;
  const isPage = 'returned_count' in output || 'discovered_count' in output;
  const facts = Object.entries(output).filter(
    ([name, value]) => name !== shownAsTable && !PAGE_FIELDS.has(name) && !(name === 'missing' && isEmpty(value)),
  );
  const blocks: string[] = [];
  // A page is its table; what else there is stands below it. Elsewhere the facts come first.
  if (!isPage && facts.length > 0) blocks.push(renderFacts(facts, width));
  if (shownAsTable !== undefined) blocks.push(renderTable(rows as JsonObject[], list!.columns, width));
  if (isPage)
    blocks.push([pageLine(output, rows), facts.length > 0 ? renderFacts(facts, width) : ''].filter(Boolean).join('\n'));
  return blocks.filter((block) => block !== '').join('\n\n');
}

/**
 * Aligned columns without borders. Into a `width` that is too narrow it fits by shortening peer ids, breaking headings
 * into lines, cutting wide columns and leaving out the last ones. An id is what other commands take: it is whole, or
 * left out with its column; of a list of them the first ones are shown and the others counted. A terminal narrower than
 * the first id shows more than fits.
 */
export function renderTable(rows: JsonObject[], columns: string[], width: number | undefined): string {
  if (rows.length === 0) return paint('dim', 'none');
  let head = columns.map(heading);
  let texts = rows.map((row) => columns.map((column) => cell(column, row[column])));
  const tooWide = () => width !== undefined && total(columnWidths(head, texts)) > width;
  if (tooWide())
    texts = texts.map((row) => row.map((text) => text.split(LIST_COMMA).map(shortPeerId).join(LIST_COMMA)));
  if (tooWide()) head = head.map((text) => text.replaceAll(' ', '\n'));
  const wholes = columns.map((column, index) => {
    return IDS.test(column)
      ? Math.max(
          ...head[index]!.split('\n').map((line) => stringWidth(line)),
          ...texts.map((row) => stringWidth(listed(row[index]!, 0))),
        )
      : 0;
  });
  const widths = fitted(columnWidths(head, texts), wholes, width);
  const shown = texts.map((row) =>
    widths.map((each, index) => (wholes[index] === 0 ? row[index]! : listed(row[index]!, each))),
  );
  const table = new Table({
    head: head.slice(0, widths.length).map((text) => paint('dim', text)),
    chars: NO_BORDERS,
    colWidths: widths.map((each) => each + GAP),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': GAP, compact: true },
    wordWrap: false,
  });
  table.push(...shown);
  return trimLines(table.toString());
}

/** As many items of a list as fit, at least one, and how many more there are: `ada, ben +3`. */
function listed(text: string, width: number): string {
  if (stringWidth(text) <= width) return text;
  const items = text.split(LIST_COMMA);
  for (let count = items.length - 1; count > 0; count--) {
    const short = `${items.slice(0, count).join(LIST_COMMA)} +${items.length - count}`;
    if (stringWidth(short) <= width || count === 1) return short;
  }
  return text;
}

/**
 * The widths that are shown: fewer and smaller ones where there is no room for all.
 *
 * @param wholes per column what it takes at least; 0 for one that may be cut
 */
function fitted(natural: number[], wholes: number[], width: number | undefined): number[] {
  if (width === undefined) return natural;
  const floors = (least: number) => natural.map((each, column) => wholes[column] || Math.min(least, each));
  let widths = narrowed(natural, width, floors(CUT_CHARS_MIN), 1);
  while (total(widths) > width && widths.length > COLUMNS_MIN) widths = widths.slice(0, -1);
  // What is left out made room again.
  widths = narrowed(natural.slice(0, widths.length), width, floors(CUT_CHARS_MIN), 1);
  widths = narrowed(widths, width, floors(1), 0);
  return total(widths) > width ? widths.slice(0, 1) : widths;
}

/** Takes what is too much from the widest column from `first` on, again and again, while one is wider than its floor. */
function narrowed(widths: number[], width: number, floors: number[], first: number): number[] {
  const result = [...widths];
  while (total(result) > width) {
    let widest = -1;
    for (let column = first; column < result.length; column++) {
      if (result[column]! > floors[column]! && result[column]! > (result[widest] ?? 0)) widest = column;
    }
    if (widest === -1) break;
    result[widest] = result[widest]! - 1;
  }
  return result;
}

/** `12D3KooW…a1B2c3D4`, which is still unlike every other peer's. Other text as it is. */
export function shortPeerId(text: string): string {
  return PEER_ID.test(text) ? `${text.slice(0, 8)}…${text.slice(-PEER_ID_TAIL_CHARS)}` : text;
}

function renderFacts(facts: [string, JsonValue][], width: number | undefined): string {
  const inline = facts.filter(([name, value]) => isInline(name, value));
  const below = facts.filter(([name, value]) => !isInline(name, value));
  const label = Math.max(0, ...inline.map(([name]) => title(name).length)) + GAP;
  const lines = inline.map(([name, value]) => paint('dim', title(name).padEnd(label)) + oneLine(name, value));
  const blocks = below.map(([name, value]) => `${paint('dim', title(name))}\n${indent(block(name, value, width))}`);
  return [lines.join('\n'), ...blocks].filter((part) => part !== '').join('\n\n');
}

/** That no peer is missing goes without saying. */
function isEmpty(value: JsonValue): boolean {
  return Array.isArray(value) && value.length === 0;
}

function isInline(name: string, value: JsonValue): boolean {
  if (typeof value === 'string') return !value.includes('\n');
  if (isPlain(value)) return true;
  if (DATA_FIELDS.has(name)) return JSON.stringify(value).length <= 60;
  if (Array.isArray(value)) return value.every(isPlain);
  return Object.values(value as JsonObject).every(isPlain);
}

function oneLine(name: string, value: JsonValue): string {
  return DATA_FIELDS.has(name) && !isPlain(value) ? printableJson(value) : cell(name, value);
}

function block(name: string, value: JsonValue, width: number | undefined): string {
  if (typeof value === 'string') return printable(value.trimEnd(), LINES);
  if (DATA_FIELDS.has(name)) return printableJson(value, 2);
  if (name === 'logs') return (value as JsonObject[]).map(logLine).join('\n');
  if (Array.isArray(value)) {
    const rows = value as JsonObject[];
    return renderTable(
      rows,
      [...new Set(rows.flatMap((row) => Object.keys(row)))],
      width === undefined ? undefined : width - GAP,
    );
  }
  return renderFacts(Object.entries(value as JsonObject), width);
}

function logLine(entry: JsonObject): string {
  const parts = [entry['step_id'], entry['index']].filter((part) => part !== undefined && part !== null);
  const words = [
    cell('at', entry['at']),
    printable(parts.join(':')),
    entry['stream'] === 'stderr' ? paint('red', 'stderr') : printable(String(entry['stream'])),
  ];
  return `${paint('dim', words.filter(Boolean).join('  '))}  ${printable(String(entry['line']), TAB)}`;
}

function pageLine(output: JsonObject, rows: JsonValue | undefined): string {
  const shown = output['returned_count'] ?? (Array.isArray(rows) ? rows.length : 0);
  const more = output['has_more'] === true ? '; --offset and --limit show the rest' : '';
  const all = output['total_count'];
  return shown === 0 && !all ? '' : paint('dim', all === undefined ? `${shown} found` : `${shown} of ${all}${more}`);
}

function heading(column: string): string {
  return title(column).toUpperCase();
}

/** The unit stands with the value. */
function title(name: string): string {
  return printable(name.replace(/_ms$/, '').replaceAll('_', ' '));
}

function columnWidths(head: string[], rows: string[][]): number[] {
  const longestLine = (text: string) => Math.max(...text.split('\n').map((line) => stringWidth(line)));
  return head.map((text, index) => Math.max(longestLine(text), ...rows.map((row) => stringWidth(row[index]!))));
}

function total(widths: number[]): number {
  return widths.reduce((sum, each) => sum + each + GAP, 0) - GAP;
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, ' '.repeat(GAP));
}

function trimLines(text: string): string {
  return text
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

const NO_BORDERS = Object.fromEntries(
  ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right']
    .concat(['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'])
    .map((place) => [place, '']),
);
