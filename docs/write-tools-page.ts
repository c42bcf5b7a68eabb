/**
 * Writes docs/tools.md, the reference of the tools, from their definitions:
 *
 *   node docs/write-tools-page.ts
 *
 * A test fails while the committed page is not what this writes.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Tool } from '../tools/definition.ts';
import { tools } from '../tools/registry.ts';

export const TOOLS_PAGE = fileURLToPath(new URL('tools.md', import.meta.url));

/** Fields within fields within fields; below that the type alone is shown. */
const NESTING_SHOWN_MAX = 3;

const SECTIONS = [
  { title: 'Workflows', nouns: ['workflow'] },
  { title: 'Tasks, queue and workers', nouns: ['task', 'queue', 'worker'] },
  { title: 'Peers', nouns: ['peer', 'bootstrap'] },
];

interface Schema {
  type?: string | string[];
  enum?: unknown[];
  const?: unknown;
  anyOf?: Schema[];
  items?: Schema;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  required?: string[];
  default?: unknown;
  description?: string;
}

const HEAD = `# The tools

Every peer answers the same ${tools.size} tools, over MCP (HTTP and stdio), on the command line (\`flowmesh noun verb\`) and
between peers. A call about a workflow, task or worker may be sent to any peer: it runs at the one that owns the record.

- Every answer has \`success: true\`. A failure is \`{ success: false, error: { code, message, retryable, details? } }\`, over
  MCP with \`isError: true\`. An input that does not fit is \`INVALID_INPUT\`, with \`details.problems: [{ path, message }]\`;
  an unknown field is such a problem. Something that no reachable peer knows is \`NOT_FOUND\`.
- While the owner of a record cannot be reached, reads are answered from a copy and say how old that may be (\`stale_ms\`);
  changes wait up to 15 s for the next owner, then cancels are kept for it (\`pending: true\`) and others refused.
- Inputs are taken as models write them: \`null\` for a field that is absent, and a list, an object, a number or a switch as
  text. The data in \`inputs\`, \`payload\`, \`input\` and \`metadata\` is never looked into.
- Answers about a run are about 60 KB at most, unless a larger \`max_bytes\` is asked for; \`truncated\` says that there is more,
  and \`cuts\` which lists and texts are only begun. The command line asks for the whole.
- Over MCP a call that has a progress token is told every second that it still runs.
- Times are ISO 8601 UTC, durations end in \`_ms\`. A figure is measured or \`null\`.
- Lists and counts are of the mesh: the connected peers are asked too, and \`missing\` names those that did not answer. With \`scope: "local"\` they are of the asked peer alone.

This page is written from the definitions in \`tools/\` by \`node docs/write-tools-page.ts\`.
`;

/** The whole page, as it is committed. */
export function toolsPage(): string {
  const parts = [HEAD];
  for (const { title, nouns } of SECTIONS) {
    const inSection = [...tools.values()].filter(({ name }) => nouns.some((noun) => name.startsWith(`${noun}_`)));
    parts.push(`## ${title}\n`, ...inSection.map(toolSection));
  }
  return parts.join('\n');
}

function toolSection(tool: Tool): string {
  const input = z.toJSONSchema(tool.input, { io: 'input' }) as Schema;
  const output = z.toJSONSchema(tool.output, { io: 'output' }) as Schema;
  return [
    `### ${tool.name}\n`,
    `${tool.description}\n`,
    `${facts(tool)}\n`,
    'Input:\n',
    ...table(
      ['field', 'type', 'default', 'meaning'],
      fieldRows(input, '', 1).map(({ path, schema, required }) => [
        `\`${path}\`${required ? ' *' : ''}`,
        typeOf(schema),
        defaultOf(schema),
        text(schema.description),
      ]),
    ),
    '\nOutput:\n',
    ...table(
      ['field', 'type', 'meaning'],
      fieldRows(output, '', 1).map(({ path, schema, required }) => [
        `\`${path}\`${required ? '' : ' (optional)'}`,
        typeOf(schema),
        text(schema.description),
      ]),
    ),
    '',
  ].join('\n');
}

/** Aligned, as the formatter of the repository wants tables. */
function table(head: string[], rows: string[][]): string[] {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  const line = (cells: string[]) => `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)];
}

function facts({ permission, annotations }: Tool): string {
  const hints = annotations.readOnlyHint
    ? ['changes nothing']
    : [
        ...(annotations.destructiveHint ? ['ends or removes something'] : []),
        ...(annotations.idempotentHint ? ['the same call again changes nothing more'] : []),
      ];
  return [`Permission \`${permission}\``, ...hints].join('; ').concat('.');
}

interface FieldRow {
  path: string;
  schema: Schema;
  required: boolean;
}

function fieldRows(schema: Schema, prefix: string, depth: number): FieldRow[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const path = `${prefix}${name}`;
    const row = { path, schema: field, required: schema.required?.includes(name) ?? false };
    if (depth >= NESTING_SHOWN_MAX || isError(field)) return [row];
    const { of, inList } = withFields(field);
    return of === undefined ? [row] : [row, ...fieldRows(of, `${path}${inList ? '[]' : ''}.`, depth + 1)];
  });
}

/** The object with fields that a field is, or is a list of, or may be besides null. */
function withFields(schema: Schema): { of: Schema | undefined; inList: boolean } {
  const present = withoutNull(schema);
  const inList = present.type === 'array';
  const of = inList ? withoutNull(present.items ?? {}) : present;
  return { of: of.properties === undefined || isError(of) ? undefined : of, inList };
}

function withoutNull(schema: Schema): Schema {
  const present = schema.anyOf?.filter(({ type }) => type !== 'null');
  return present?.length === 1 ? present[0]! : schema;
}

/** Errors have one shape everywhere, told at the head of the page. */
function isError(schema: Schema): boolean {
  const { properties } = withoutNull(schema);
  return properties !== undefined && 'retryable' in properties && 'code' in properties;
}

function typeOf(schema: Schema): string {
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${value}\``).join(' \\| ');
  if (schema.const !== undefined) return `\`${schema.const}\``;
  if (isError(schema)) return schema.anyOf === undefined ? 'error' : 'error or null';
  if (schema.anyOf !== undefined) return [...new Set(schema.anyOf.map(typeOf))].join(' or ');
  if (schema.type === 'array') return `list of ${typeOf(schema.items ?? {})}`;
  if (schema.type === undefined) return 'any JSON value';
  return [schema.type].flat().join(' or ');
}

function defaultOf({ default: value }: Schema): string {
  if (value === undefined) return '';
  const json = JSON.stringify(value);
  return json.length > 40 ? 'see its fields' : `\`${json}\``;
}

function text(description: string | undefined): string {
  return (description ?? '').replaceAll('|', '\\|').replaceAll('\n', ' ');
}

if (import.meta.main) writeFileSync(TOOLS_PAGE, toolsPage());
