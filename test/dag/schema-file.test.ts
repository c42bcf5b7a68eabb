import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { SCHEMA_FILE, schemaText } from '../../docs/write-schema.ts';

it('docs/workflow.schema.json is up to date (node docs/write-schema.ts)', async () => {
  expect(await readFile(SCHEMA_FILE, 'utf8')).toBe(schemaText());
});

it('the schema asks only for what has no default', () => {
  const schema = JSON.parse(schemaText()) as {
    required: string[];
    properties: { steps: { items: { required: string[] } } };
  };
  expect(schema.required.sort()).toEqual(['name', 'steps']);
  expect(schema.properties.steps.items.required.sort()).toEqual(['action', 'step_id']);
});
