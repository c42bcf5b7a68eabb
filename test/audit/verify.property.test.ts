/** Whatever is done to the files of a trail is found. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { verifyTrail } from '../../node/audit/verify.ts';
import { readFolder, trailFolder, writeFolder, writeTrail } from './trail-folder.ts';

const RUNS = 100;
const STARTS = 12;

let folder: Awaited<ReturnType<typeof trailFolder>>;
let whole: Map<string, Buffer>;
let names: string[];

beforeAll(async () => {
  folder = await trailFolder();
  // Older files have been removed by the trail itself.
  await writeTrail(folder.path, STARTS, { files_max: 4 });
  whole = await readFolder(folder.path);
  names = [...whole.keys()].filter((name) => name !== 'head.json');
  expect(names).toHaveLength(4);
});
afterAll(() => folder[Symbol.asyncDispose]());

async function problemWith(files: Map<string, Buffer>) {
  await writeFolder(folder.path, files);
  return (await verifyTrail(folder.path)).problem;
}

function linesOf(name: string): string[] {
  return whole.get(name)!.toString().split('\n').slice(0, -1);
}

/** All lines of all files, in order. */
const allLines = () => names.flatMap((name) => linesOf(name).map((line) => ({ name, line })));

/** The trail with other lines: each in the file where it was, or where it is put. */
function withLines(lines: { name: string; line: string }[]): Map<string, Buffer> {
  const files = new Map(whole);
  for (const name of names) {
    const text = lines.filter((each) => each.name === name).map(({ line }) => `${line}\n`);
    files.set(name, Buffer.from(text.join('')));
  }
  return files;
}

test('a trail that nobody touched is whole', async () => {
  expect(await problemWith(whole)).toBeNull();
});

test('an altered byte is found, wherever it is', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.nat(), fc.integer({ min: 1, max: 255 }), async (which, where, flip) => {
      const name = names[which % names.length]!;
      const bytes = Buffer.from(whole.get(name)!);
      const at = where % bytes.length;
      bytes[at] = bytes[at]! ^ flip;
      const problem = await problemWith(new Map(whole).set(name, bytes));
      expect(problem, `${name} at ${at}`).not.toBeNull();
    }),
    { numRuns: 3 * RUNS },
  );
});

test('an altered text of a line is named with its line', async () => {
  const lines = allLines();
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: lines.length - 1 }), async (index) => {
      const altered = lines.map((each, at) => {
        return at === index ? { ...each, line: each.line.replace(/"outcome":"[A-Za-z]+"/, '"outcome":"no"') } : each;
      });
      const { seq } = JSON.parse(lines[index]!.line);
      expect(await problemWith(withLines(altered))).toMatchObject({ kind: 'altered', seq });
    }),
    { numRuns: RUNS },
  );
});

test('lines that were taken out are named', async () => {
  const lines = allLines();
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: lines.length - 1 }), fc.integer({ min: 1, max: 12 }), async (from, count) => {
      const problem = await problemWith(withLines(lines.toSpliced(from, count)));
      const isEnd = from + count >= lines.length;
      expect(problem).toMatchObject({ kind: isEnd ? 'cut' : 'missing', seq: JSON.parse(lines[from]!.line).seq });
    }),
    { numRuns: RUNS },
  );
});

test('two lines that changed places are found', async () => {
  const lines = allLines();
  const place = fc.nat({ max: lines.length - 1 });
  await fc.assert(
    fc.asyncProperty(place, place, async (one, other) => {
      fc.pre(one !== other);
      const swapped = [...lines];
      [swapped[one], swapped[other]] = [
        { name: lines[one]!.name, line: lines[other]!.line },
        { name: lines[other]!.name, line: lines[one]!.line },
      ];
      const problem = await problemWith(withLines(swapped));
      // At the very beginning the line that stands there looks like the first that is left.
      if (Math.min(one, other) === 0) expect(problem).not.toBeNull();
      else expect(problem).toMatchObject({ kind: 'reordered', seq: JSON.parse(lines[Math.min(one, other)]!.line).seq });
    }),
    { numRuns: RUNS },
  );
});

test('a tail that was cut off is found, at any byte', async () => {
  const last = names.at(-1)!;
  const { length } = whole.get(last)!;
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: length - 1 }), async (kept) => {
      const problem = await problemWith(new Map(whole).set(last, whole.get(last)!.subarray(0, kept)));
      expect(problem).toMatchObject({ kind: 'cut' });
    }),
    { numRuns: RUNS },
  );
});

test.each([0, 1, 2, 3])('a file that was removed is found: number %i', async (index) => {
  const files = new Map(whole);
  files.delete(names[index]!);
  expect(await problemWith(files)).toMatchObject({ kind: index === 3 ? 'cut' : 'missing' });
});
