import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readDocument } from '../../node/cli/document.ts';

async function read(text: string) {
  const folder = await mkdtemp(join(tmpdir(), 'flowmesh-file-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const path = join(folder, 'w.yaml');
  await writeFile(path, text);
  return await readDocument(path);
}

describe('a file that YAML reads otherwise than it was meant is refused with the place and what to write', () => {
  test.each([
    ['two documents', 'name: a\n---\nname: b\n', /w\.yaml:2:1: a second document begins here.*file of its own/],
    ['a colon in a value', 'a:\n  message: Deploy: now\n', /w\.yaml:2:12: .*is written in quotes: "Deploy: now"/],
    [
      'a colon inside { }',
      'inputs: { message: Deploy: now }\n',
      /w\.yaml:1:\d+: .*is written in quotes: "Deploy: now"/,
    ],
    ['a colon in an expression', 'when: ${ a ? b : c }\n', /w\.yaml:1:\d+: .*an expression in quotes: "\$\{ … \}"/],
    [
      'an expression inside { }',
      'a: { v: ${ item } }\n',
      /w\.yaml:1:\d+: .*inside \{ \} and \[ \] write an expression/,
    ],
    [
      'an expression inside [ ]',
      'a: [echo, ${ item }]\n',
      /w\.yaml:1:\d+: .*inside \{ \} and \[ \] write an expression/,
    ],
    ['braces of another language', 'a: {{ item }}\n', /w\.yaml:1:5: the name of a field is a text.*"\$\{ … \}"/],
    ['a negation', 'when: !input.a\n', /w\.yaml:1:7: a value that begins with "!".*in quotes/],
    ['a sign at the beginning', 'a: @home\n', /w\.yaml:1:4: .*write the value in quotes/],
    ['a list that does not end', 'a: [1, 2\n', /w\.yaml:2:1: .*end with a \]/],
  ])('%s', async (_what, text, message) => {
    await expect(read(text)).rejects.toThrow(message);
  });

  test('what is right is read as it is', async () => {
    const text = 'a: "Deploy: now"\nb: ${ item.x }\nc: { v: "${ item }" }\nd: !!str 7\n';
    expect((await read(text)).value).toEqual({ a: 'Deploy: now', b: '${ item.x }', c: { v: '${ item }' }, d: '7' });
  });
});

describe('a file with data that JSON cannot hold, or that would change, is refused with the place', () => {
  test.each([
    [
      'an integer that is not exact',
      'input:\n  ids: [1, 3544790567247868102]\n',
      /w\.yaml:2:12: input\.ids\[1\] is 3544790567247868102.*write it as a string/,
    ],
    ['the same in JSON', '{"input":{"id":3544790567247868102}}', /input\.id is 3544790567247868102/],
    ['the same as hex', 'id: 0x3131_3131_3131_3131\nb: 0x3131313131313131\n', /b is 3544668469065756977/],
    ['a number out of range', 'a: { b: 1e400 }\n', /a\.b is Infinity/],
    ['infinity', 'a: .inf\n', /a is Infinity/],
    ['no number', 'a: [.nan]\n', /a\[0\] is NaN/],
    [
      'a name that data cannot have',
      'input:\n  __proto__: { a: 1 }\n',
      /input\.__proto__ is a name that data cannot have/,
    ],
    ['too deep a list', `a: ${'['.repeat(200)}${']'.repeat(200)}\n`, /nested too deep/],
    ['far too deep a list', `a: ${'['.repeat(100_000)}`, /nested too deep|flatten it|w\.yaml/],
    [
      'aliases of aliases',
      `a: &a [x,x,x,x,x,x,x,x,x,x]\n${[...'bcdefgh'].map((name, at) => `${name}: &${name} [${Array(10).fill(`*${'abcdefg'[at]}`).join(',')}]`).join('\n')}\n`,
      /w\.yaml/,
    ],
  ])('%s', async (_what, text, message) => {
    await expect(read(text)).rejects.toThrow(message);
  });

  test('exact numbers and strings of digits are read as they are', async () => {
    const text = 'a: 9007199254740992\nb: "3544790567247868102"\nc: 0xff\nd: -1.5e3\ne: +12\n';
    expect((await read(text)).value).toEqual({ a: 2 ** 53, b: '3544790567247868102', c: 255, d: -1500, e: 12 });
  });
});
