/**
 * The rules that keep dag/ and scheduler/ pure and imports one way are Biome's (biome.json). Here they are run on
 * the sources, so that `npm test` fails where they are broken, and on a small broken tree, so that a rule that
 * stopped working is seen too.
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');
const BIOME = join(ROOT, 'node_modules/@biomejs/biome/bin/biome');
const RULES = new Set([
  'lint/style/noRestrictedGlobals',
  'lint/style/noRestrictedImports',
  'lint/suspicious/noImportCycles',
  'plugin',
]);

/** The folders of scheduler/, from the lowest floor up; those of one floor do not know each other. */
const FLOORS: readonly [floor: number, folder: string][] = [
  [1, 'storage'],
  [2, 'worker'],
  [3, 'membership'],
  [4, 'task'],
  [4, 'replication'],
  [4, 'lookup'],
  [5, 'workflow'],
  [6, 'placement'],
  [7, 'feed'],
  [8, 'ownership'],
  [9, 'partition'],
  [10, 'client'],
];

interface Finding {
  file: string;
  rule: string;
  message: string;
}

/** What the rules above find in `folders` of the tree at `root`. */
async function findings(root: string, folders: string[]): Promise<Finding[]> {
  const args = [BIOME, 'lint', '--reporter=json', '--max-diagnostics=none', ...folders];
  const output = await new Promise<string>((done) => {
    // Biome exits with 1 when it finds something; its output says what.
    execFile(process.execPath, args, { cwd: root, maxBuffer: 64 * 1024 * 1024 }, (_error, stdout) => done(stdout));
  });
  const report = JSON.parse(output) as {
    diagnostics: { category: string; message: string; location: { path: string } }[];
  };
  return report.diagnostics
    .filter((found) => RULES.has(found.category))
    .map((found) => ({ file: found.location.path, rule: found.category, message: found.message }));
}

describe('import direction and purity', () => {
  it('hold in the sources', async () => {
    expect(await findings(ROOT, ['dag', 'scheduler', 'tools', 'node'])).toEqual([]);
  });

  describe('are checked by rules that work', () => {
    let root: string;

    beforeAll(async () => {
      root = await mkdtemp(join(tmpdir(), 'flowmesh-rules-'));
      const config = JSON.parse(await readFile(join(ROOT, 'biome.json'), 'utf8')) as Record<string, unknown>;
      delete config['$schema'];
      await writeFile(join(root, 'biome.json'), JSON.stringify(config));
      await cp(join(ROOT, 'checks'), join(root, 'checks'), { recursive: true });
    });
    afterAll(() => rm(root, { recursive: true, force: true }));

    const broken: [file: string, source: string, rule: string][] = [
      ['dag/date.ts', 'export const now = Date.now();', 'lint/style/noRestrictedGlobals'],
      ['dag/reach.ts', 'export const now = globalThis.Date;', 'lint/style/noRestrictedGlobals'],
      ['dag/random.ts', 'export const chance = Math.random();', 'plugin'],
      ['dag/unpacked.ts', 'const { random } = Math;\nexport const chance = random();', 'plugin'],
      [
        'dag/files.ts',
        "import { readFileSync } from 'node:fs';\nexport { readFileSync };",
        'lint/style/noRestrictedImports',
      ],
      [
        'dag/up.ts',
        "import type { Row } from '../scheduler/records.ts';\nexport type R = Row;",
        'lint/style/noRestrictedImports',
      ],
      ['dag/lazy.ts', "export const load = () => import('node:net');", 'lint/style/noRestrictedImports'],
      ['scheduler/timer.ts', 'setTimeout(() => {}, 1);', 'lint/style/noRestrictedGlobals'],
      ['scheduler/clock.ts', 'export const now = performance.now();', 'lint/style/noRestrictedGlobals'],
      ['scheduler/env.ts', 'export const home = process.env;', 'lint/style/noRestrictedGlobals'],
      [
        'scheduler/wire.ts',
        "import { createLibp2p } from 'libp2p';\nexport { createLibp2p };",
        'lint/style/noRestrictedImports',
      ],
      [
        'scheduler/later.ts',
        "import { setTimeout } from 'node:timers/promises';\nexport { setTimeout };",
        'lint/style/noRestrictedImports',
      ],
      [
        'scheduler/id.ts',
        "import { randomBytes } from 'node:crypto';\nexport { randomBytes };",
        'lint/style/noRestrictedImports',
      ],
      [
        'scheduler/deep/up.ts',
        "import { tools } from '../../tools/registry.ts';\nexport { tools };",
        'lint/style/noRestrictedImports',
      ],
      [
        'tools/task/up.ts',
        "import { router } from '../../node/runtimes/router.ts';\nexport { router };",
        'lint/style/noRestrictedImports',
      ],
      [
        'node/up.ts',
        "import { startProcesses } from '../test/harness/processes.ts';\nexport { startProcesses };",
        'lint/style/noRestrictedImports',
      ],
    ];

    it.each(broken)('%s', async (file, source, rule) => {
      await mkdir(join(root, file, '..'), { recursive: true });
      await writeFile(join(root, file), `${source}\n`);
      expect((await findings(root, [file])).map((found) => found.rule)).toContain(rule);
    });

    /** A file, and the path from it to one above it or beside it. */
    const upwards: [file: string, imports: string][] = [
      ...FLOORS.flatMap(([floor, folder]) => {
        const other = FLOORS.find(([above, name]) => above >= floor && name !== folder);
        const target = other === undefined ? '../scheduler.ts' : `../${other[1]}/other.ts`;
        return [[`scheduler/${folder}/up.ts`, target] as [string, string]];
      }),
      ['scheduler/contract.ts', './storage/journal.ts'],
      ['scheduler/client/top.ts', '../assemble.ts'],
      ['node/low.ts', './config/settings.ts'],
      ['node/store/up.ts', '../runtimes/router.ts'],
      ['node/processes/up.ts', '../executors/shell.ts'],
      ['node/executors/up.ts', '../expressions/evaluator.ts'],
      ['node/auth/up.ts', '../runtimes/router.ts'],
      ['node/throttle/up.ts', '../auth/principal.ts'],
      ['node/runtimes/up.ts', '../mcp/listener.ts'],
      ['node/mcp/up.ts', '../cli/main.ts'],
    ];

    it.each(upwards)('%s may not import %s, not even a type', async (file, imports) => {
      await mkdir(join(root, file, '..'), { recursive: true });
      await writeFile(join(root, file), `import type { T } from '${imports}';\nexport type U = T;\n`);
      expect((await findings(root, [file])).map((found) => found.rule)).toContain('lint/style/noRestrictedImports');
    });

    it('while a folder imports those below it', async () => {
      const source = FLOORS.slice(0, -1).map(([, folder]) => `import '../${folder}/other.ts';`);
      await mkdir(join(root, 'scheduler/client'), { recursive: true });
      await writeFile(join(root, 'scheduler/client/good.ts'), `${source.join('\n')}\nimport '../records.ts';\n`);
      expect(await findings(root, ['scheduler/client/good.ts'])).toEqual([]);
    });

    it.each(['', 'type '])('and cycles of imports are found: import %s', async (type) => {
      await mkdir(join(root, 'node/cycle'), { recursive: true });
      await writeFile(join(root, 'node/cycle/a.ts'), `import ${type}{ B } from './b.ts';\nexport class A { b?: B }\n`);
      await writeFile(join(root, 'node/cycle/b.ts'), `import ${type}{ A } from './a.ts';\nexport class B { a?: A }\n`);
      const found = await findings(root, ['node/cycle']);
      expect(found.map((one) => one.rule).filter((rule) => rule === 'lint/suspicious/noImportCycles')).toHaveLength(2);
    });

    it('while what is meant to be used passes', async () => {
      const source = [
        "import { createHash } from 'node:crypto';",
        "import { z } from 'zod';",
        "import { errorShape } from '../dag/errors.ts';",
        'export const used = [createHash, z, errorShape, Math.max(1, 2)];',
      ].join('\n');
      await mkdir(join(root, 'scheduler'), { recursive: true });
      await writeFile(join(root, 'scheduler/good.ts'), `${source}\n`);
      expect(await findings(root, ['scheduler/good.ts'])).toEqual([]);
    });
  });
});
