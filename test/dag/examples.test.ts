import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { parseWorkflow } from '../../dag/schema.ts';
import * as functions from '../../examples/functions.ts';
import { runInMemory, type World } from './run-in-memory.ts';

const folder = new URL('../../examples/', import.meta.url);
const files = (await readdir(folder)).filter((file) => file.endsWith('.yaml'));
const world: World = { functions, answer: { approve: true, data: null } };

async function load(file: string): Promise<object> {
  return parse(await readFile(new URL(file, folder), 'utf8')) as object;
}

describe('examples', () => {
  it('are all known here', () => {
    expect(files.sort()).toEqual([
      'approval.yaml',
      'deploy-with-retry.yaml',
      'diamond.yaml',
      'nested.yaml',
      'word-count.yaml',
    ]);
  });

  it.each(files)('%s says how to run it, and uses only functions that are there', async (file) => {
    const text = await readFile(new URL(file, folder), 'utf8');
    expect(text).toMatch(/^# /);
    expect(text).toContain(`#   flowmesh workflow submit examples/${file} --watch`);
    const { name, steps } = parseWorkflow(await load(file));
    expect(`${name}.yaml`).toBe(file);
    const used = steps.map((step) => step.action).filter((action) => action.startsWith('fn:'));
    for (const action of used) expect(Object.keys(functions)).toContain(action.slice(3));
  });

  it('word-count counts the words of real files', async () => {
    const { status, result } = await runInMemory(await load('word-count.yaml'), world);
    const names = ['harbour', 'lighthouse', 'tides'].map((name) => `examples/data/${name}.txt`);
    const texts = await Promise.all(names.map((name) => readFile(name, 'utf8')));
    const words = texts.map((text) => text.trim().split(/\s+/).length);
    expect(status).toBe('completed');
    expect(result).toEqual({
      total: words.reduce((sum, count) => sum + count),
      longest: names[words.indexOf(Math.max(...words))],
      files: names.map((file, index) => ({ file, words: words[index] })),
    });
    const one = await load('word-count.yaml');
    const single = await runInMemory({ ...one, input: { files: [names[0]] } }, world);
    expect(single.result).toMatchObject({ total: words[0] });
  });

  it('deploy-with-retry takes the careful way, or the direct one', async () => {
    const workflow = await load('deploy-with-retry.yaml');
    const { status, result, steps } = await runInMemory(workflow, world);
    expect(status).toBe('completed');
    expect(result).toEqual({
      version: '2.0.0',
      risk: 'high',
      upload_attempts: 3,
      servers: ['north-1', 'north-2'],
      announced: false,
    });
    expect(steps['direct']!.status).toBe('skipped');
    expect(steps['announce']).toMatchObject({ status: 'skipped', error: { message: 'no channel is configured' } });
    const input = { version: '1.9.3', running: '1.9.2', servers: ['a', 'b'], busy_attempts: 0, channel: 'news' };
    const direct = await runInMemory({ ...workflow, input }, world);
    expect(direct.result).toMatchObject({ risk: 'low', upload_attempts: 1, servers: ['a', 'b'], announced: true });
    const hopeless = await runInMemory({ ...workflow, input: { ...input, busy_attempts: 9 } }, world);
    expect(hopeless.status).toBe('failed');
  });

  it('approval publishes or archives', async () => {
    const workflow = await load('approval.yaml');
    const headline = 'LANTERNS ON THE SAND AGAIN THIS YEAR';
    const yes = { approve: true, data: { edition: 'evening', by: 'Ada' } };
    expect((await runInMemory(workflow, { functions, answer: yes })).result).toEqual({
      published: { headline, edition: 'evening', approved_by: 'Ada' },
      archived: null,
    });
    expect((await runInMemory(workflow, world)).result).toMatchObject({
      published: { edition: 'next', approved_by: 'somebody' },
    });
    const no = { approve: false, data: null };
    expect((await runInMemory(workflow, { functions, answer: no })).result).toEqual({
      published: null,
      archived: { headline, archived: true },
    });
  });

  it('nested sums up the runs inside', async () => {
    expect(await runInMemory(await load('nested.yaml'), world)).toMatchObject({
      status: 'completed',
      result: {
        regions: [
          { region: 'north', net: 240, vat: 48 },
          { region: 'south', net: 70, vat: 14 },
          { region: 'west', net: 0, vat: 0 },
        ],
        net: 310,
        vat: 62,
      },
    });
  });

  it('diamond joins its two sides', async () => {
    const { result } = await runInMemory(await load('diamond.yaml'), world);
    expect(result).toEqual({ sum: 63, sentence: 'Double is 14, square is 49.' });
  });
});
