/** The page of settings says what the schema says. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { CONFIGURATION_PAGE, configurationPage } from '../../docs/write-configuration-page.ts';
import { knownVariables, OPTIONS } from '../../node/config/options.ts';
import { settingsSchema } from '../../node/config/settings.ts';

const page = readFileSync(CONFIGURATION_PAGE, 'utf8');

it('docs/configuration.md is up to date (node docs/write-configuration-page.ts)', () => {
  expect(page).toBe(configurationPage());
});

it('has every variable, flag and field of the mesh file', () => {
  for (const name of knownVariables()) if (name !== 'FLOWMESH_CRASH_AT') expect(page).toContain(`\`${name}\``);
  for (const { flag } of OPTIONS) expect(page).toContain(`\`${flag}\``);
  const schema = z.toJSONSchema(settingsSchema, { io: 'input', unrepresentable: 'any' });
  for (const path of fieldsOf(schema as Schema)) expect(page).toContain(`| \`${path}\``);
});

interface Schema {
  properties?: Record<string, Schema>;
  anyOf?: Schema[];
}

function fieldsOf(schema: Schema, at = ''): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const inside = field.properties === undefined ? field.anyOf?.find(({ properties }) => properties) : field;
    return inside === undefined ? [at + name] : fieldsOf(inside, `${at}${name}.`);
  });
}
