/**
 * Writes docs/workflow.schema.json, the JSON Schema of a workflow file. Editors that know it complete and check:
 *
 *   node docs/write-schema.ts
 *   # yaml-language-server: $schema=../docs/workflow.schema.json     (first line of a workflow file)
 */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { workflowJsonSchema } from '../dag/schema.ts';

export const SCHEMA_FILE = fileURLToPath(new URL('./workflow.schema.json', import.meta.url));

/** What the file is to contain. */
export function schemaText(): string {
  return `${JSON.stringify(workflowJsonSchema(), null, 2)}\n`;
}

if (import.meta.main) await writeFile(SCHEMA_FILE, schemaText());
