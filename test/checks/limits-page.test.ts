/** The page of limits says what the sources say. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { LIMITS_PAGE, limitsPage, MET } from '../../docs/write-limits-page.ts';

const ROOT = resolve(import.meta.dirname, '../..');

const sources = ['dag', 'scheduler', 'tools', 'node'].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => ({ name: join(folder, name), text: readFileSync(join(ROOT, folder, name), 'utf8') })),
);

it('docs/limits.md is up to date (node docs/write-limits-page.ts)', async () => {
  expect(readFileSync(LIMITS_PAGE, 'utf8')).toBe(await limitsPage());
});

it('has every file of limits', () => {
  const page = readFileSync(LIMITS_PAGE, 'utf8');
  const files = sources.filter(({ name }) => name.endsWith('limits.ts'));
  expect(files.length).toBeGreaterThan(5);
  for (const { name } of files) expect(page).toContain(`\`${name}\``);
});

it('names only errors that there are, and limits that something looks at', () => {
  for (const { beyond, limits } of MET) {
    for (const [, code] of beyond.matchAll(/`([A-Z][A-Z_]+)`/g)) {
      expect(
        sources.some(({ text }) => text.includes(`'${code}'`)),
        `the error ${code}`,
      ).toBe(true);
    }
    for (const name of limits) {
      const users = sources.filter(({ text }) => new RegExp(`(?<!export const )\\b${name}\\b`).test(text));
      expect(users.length, `who looks at ${name}`).toBeGreaterThan(0);
    }
  }
});
