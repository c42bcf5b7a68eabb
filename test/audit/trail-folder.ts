/** A folder with a trail in it, which a test may spoil. */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TrailEntry, trailFiles } from '../../node/audit/line.ts';
import { AuditTrail, type TrailOptions } from '../../node/audit/trail.ts';
import { createClock } from '../../node/clock.ts';
import { silentLog } from '../../node/log.ts';

/** A file gets two batches of `writeTrail`. */
const SMALL_FILE_BYTES = 2_500;

export async function trailFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = join(tmpdir(), `flowmesh-trail-${randomUUID()}`);
  await mkdir(path);
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

export function openTrail(folder: string, options: Partial<TrailOptions> = {}): Promise<AuditTrail> {
  return AuditTrail.open(folder, { clock: createClock(), log: silentLog, ...options });
}

export function callOf(number: number): TrailEntry {
  return {
    event: 'call',
    who: { id: 'key:ci', name: 'ci' },
    from: '127.0.0.1',
    tool: 'task_cancel',
    on: { kind: 'task', id: `task-${number}` },
    outcome: number % 3 === 0 ? 'FORBIDDEN' : 'ok',
  };
}

/** Writes a trail of peers that were started `starts` times and called thrice each, in small files. */
export async function writeTrail(folder: string, starts: number, options: Partial<TrailOptions> = {}): Promise<void> {
  for (let start = 0; start < starts; start++) {
    const trail = await openTrail(folder, { file_bytes_max: SMALL_FILE_BYTES, ...options });
    for (let call = 1; call <= 3; call++) trail.record(callOf(3 * start + call));
    await trail.close();
  }
}

export async function readLines(folder: string): Promise<Record<string, unknown>[]> {
  const texts = await Promise.all((await trailFiles(folder)).map(({ path }) => readFile(path, 'utf8')));
  return texts.flatMap((text) => text.split('\n').filter((line) => line !== '')).map((line) => JSON.parse(line));
}

/** Every file of the folder by its name. */
export async function readFolder(folder: string): Promise<Map<string, Buffer>> {
  const names = (await readdir(folder)).sort();
  return new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))] as const)));
}

/** Makes the folder have these files and no others. */
export async function writeFolder(folder: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  for (const [name, bytes] of files) await writeFile(join(folder, name), bytes);
}
