import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { TOOLS_PAGE, toolsPage } from '../../docs/write-tools-page.ts';
import type { Tool } from '../../tools/definition.ts';
import { tools } from '../../tools/registry.ts';
import { answerOperation } from '../../tools/task/answer.ts';
import { PUBLISHED, PUBLISHED_WITHIN } from './published-fields.ts';

interface Schema {
  type?: string;
  description?: string;
  default?: unknown;
  required?: string[];
  properties?: Record<string, Schema>;
  additionalProperties?: unknown;
  items?: Schema;
  anyOf?: Schema[];
}

const schemaOf = (tool: Tool, io: 'input' | 'output') => z.toJSONSchema(tool[io], { io }) as Schema;
const all = [...tools.values()];

describe('the registry', () => {
  it('has exactly the published tools, in their order', () => {
    expect([...tools.keys()]).toEqual(PUBLISHED.map(([name]) => name));
    expect(tools.size).toBe(26);
    for (const [name, tool] of tools) expect(tool.name).toBe(name);
    expect(tools.has(answerOperation.name)).toBe(false);
  });

  it.each(PUBLISHED)('%s takes exactly the published input', (name, input) => {
    const { properties = {}, required = [], additionalProperties } = schemaOf(tools.get(name)!, 'input');
    const written = Object.entries(properties).map(([field, schema]) => {
      if (required.includes(field)) return `${field}*`;
      return schema.default === undefined ? field : `${field}=${JSON.stringify(schema.default)}`;
    });
    expect(written.sort()).toEqual(input.split(' ').sort());
    expect(additionalProperties).toBe(false);
  });

  it.each(PUBLISHED)('%s answers the published output', (name, _input, output) => {
    const { properties = {} } = schemaOf(tools.get(name)!, 'output');
    expect(Object.keys(properties)).toEqual(expect.arrayContaining(output.split(' ')));
    expect(properties).not.toHaveProperty('success');
  });

  it.each(PUBLISHED_WITHIN)('%s has the published fields of its %s %s', (name, io, path, names) => {
    let schema = schemaOf(tools.get(name)!, io);
    for (const part of path.split('.')) {
      const list = part.endsWith('[]');
      schema = present(schema.properties![list ? part.slice(0, -2) : part]!);
      if (list) schema = present(schema.items!);
    }
    const found = Object.keys(schema.properties!);
    if (io === 'input') expect(found.sort()).toEqual(names.split(' ').sort());
    else expect(found).toEqual(expect.arrayContaining(names.split(' ')));
  });

  it.each([...all, answerOperation].map((tool) => [tool.name, tool] as const))('%s explains itself', (_name, tool) => {
    expect(tool.title.length).toBeGreaterThan(5);
    const sentences = tool.description.split(/(?<=[.;:])\s/);
    expect(sentences.length).toBeGreaterThanOrEqual(2);
    for (const [field, schema] of Object.entries(schemaOf(tool, 'input').properties ?? {})) {
      expect(schema.description, `${tool.name}.${field}`).toMatch(/\S{2,}/);
    }
  });

  it('states what each tool may do', () => {
    for (const { name, annotations, permission, runtime } of all) {
      const reads = permission.endsWith(':read');
      expect(annotations.readOnlyHint, name).toBe(reads);
      if (reads) expect(annotations.destructiveHint, name).toBe(false);
      if (runtime === 'serve') expect(reads, name).toBe(true);
    }
    const destructive = all.filter(({ annotations }) => annotations.destructiveHint).map(({ name }) => name);
    expect(destructive).toEqual([
      'workflow_cancel',
      'task_cancel',
      'queue_clear',
      'worker_unregister',
      'peer_disconnect',
    ]);
  });

  it('names real fields in what it tells the command line', () => {
    for (const tool of [...all, answerOperation]) {
      for (const field of tool.cli?.positional ?? []) expect(tool.input.shape, tool.name).toHaveProperty(field);
      const { list } = tool.cli ?? {};
      if (list === undefined) continue;
      const { items } = present(schemaOf(tool, 'output').properties![list.field]!);
      for (const column of list.columns) expect(items!.properties, `${tool.name} ${column}`).toHaveProperty(column);
    }
  });

  it('is what the reference page says', () => {
    expect(readFileSync(TOOLS_PAGE, 'utf8'), 'run: node docs/write-tools-page.ts').toBe(toolsPage());
  });
});

function present(schema: Schema): Schema {
  return schema.anyOf?.find(({ type }) => type !== 'null') ?? schema;
}
