/** `flowmesh audit verify | show`: reads the audit trail of a peer in its data folder, whether the peer runs or not. */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { JsonObject } from '../../dag/errors.ts';
import { trailFiles } from '../audit/line.ts';
import { NoTrailError, type TrailVerdict, verifyTrail } from '../audit/verify.ts';
import { flowmeshHome, runningPeers } from '../data-folder.ts';
import { printable, printableJson } from '../printable.ts';
import { paint } from './cells.ts';
import { EXIT, UsageError } from './exit.ts';
import { terminalWidth } from './tool-command.ts';

const LINES_SHOWN_DEFAULT = 20;
const COLUMNS = ['seq', 'at', 'who', 'from', 'what', 'on', 'outcome'];

type Finish = (code: number) => void;

export function addAuditCommands(group: Command, finish: Finish): void {
  const verify = group
    .command('verify')
    .summary('Check that nobody has altered the audit trail')
    .description(
      'Reads the audit trail of a peer on this machine from its first line to its last, and names the first line that was altered, taken out, put elsewhere or cut off. Exit code 1 when there is one.',
    )
    .option('--head <seq:hash>', 'A line that was noted before: what the trail was then must be in it as it was');
  addFolderOptions(verify).action(async () => {
    const { dataDir, json = false, head } = verify.opts<{ dataDir?: string; json?: boolean; head?: string }>();
    finish(show(await verifyTrail(await folderOf(dataDir), lineOf(head)), json));
  });

  const last = group
    .command('show')
    .summary('Show the last lines of the audit trail')
    .description('Shows who called what last at a peer on this machine, from where, and whether it was allowed.')
    .option('--limit <count>', 'How many lines', String(LINES_SHOWN_DEFAULT));
  addFolderOptions(last).action(async () => {
    const { dataDir, json = false, limit } = last.opts<{ dataDir?: string; json?: boolean; limit: string }>();
    if (!/^[1-9]\d{0,6}$/.test(limit)) throw new UsageError(`--limit: "${limit}" is not a number of lines`);
    await showLast(await folderOf(dataDir), Number(limit), json);
  });
}

function addFolderOptions(command: Command): Command {
  return command
    .option(
      '--data-dir <folder>',
      'The data folder of the peer (default: of the first that runs here) [FLOWMESH_DATA_DIR]',
    )
    .option('--json', 'Print it as JSON');
}

async function folderOf(dataDir = process.env['FLOWMESH_DATA_DIR']): Promise<string> {
  if (dataDir) return join(resolve(dataDir), 'audit');
  const home = flowmeshHome(process.env);
  const [running] = await runningPeers(home, process.env['FLOWMESH_MESH'] || undefined);
  if (running !== undefined) return join(running.path, 'audit');
  throw new UsageError(`no peer runs on this machine (looked in ${home}): name the folder of one with --data-dir`);
}

function lineOf(head: string | undefined): { seq: number; hash: string } | undefined {
  if (head === undefined) return undefined;
  const [, seq, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(head) ?? [];
  if (hash === undefined) throw new UsageError(`--head: "${head}" is not a number and a hash, as verify prints them`);
  return { seq: Number(seq), hash };
}

/** @returns the exit code */
function show(verdict: TrailVerdict, json: boolean): number {
  const { problem, lost } = verdict;
  const code = problem === null ? EXIT.done : EXIT.failed;
  if (json) {
    process.stdout.write(`${printableJson({ success: problem === null, ...verdict }, 2)}\n`);
    return code;
  }
  const lines = lost.map((each) => {
    return `${paint('yellow', 'lost')}  ${each.lines} lines after line ${each.seq} could not be written (${printable(each.why)})`;
  });
  if (problem === null) {
    const first = verdict.first_seq === 1 ? '' : `; older ones were removed by the peer`;
    lines.push(
      `${paint('green', 'whole')}  ${verdict.lines} lines in ${verdict.files} files, from ${verdict.first_seq} to ${verdict.last_seq}${first}`,
      `Keep this elsewhere, for a later --head: ${verdict.last_seq}:${verdict.last_hash}`,
    );
  } else {
    const place = problem.at === null ? '' : `${printable(problem.at)}: `;
    lines.push(`${paint('red', problem.kind)}  ${place}${problem.message}`);
  }
  process.stdout.write(`${lines.join('\n')}\n`);
  return code;
}

async function showLast(folder: string, limit: number, json: boolean): Promise<void> {
  const files = await trailFiles(folder).catch((error: unknown) => {
    throw new NoTrailError(folder, error);
  });
  let lines: string[] = [];
  for (const { path } of files.toReversed()) {
    const text = await readFile(path, 'utf8');
    // What has no end is being written.
    const whole = text
      .slice(0, text.lastIndexOf('\n') + 1)
      .split('\n')
      .slice(0, -1);
    lines = [...whole.slice(Math.max(0, whole.length - (limit - lines.length))), ...lines];
    if (lines.length >= limit) break;
  }
  if (json) {
    process.stdout.write(lines.map((line) => `${printable(line)}\n`).join(''));
    return;
  }
  const { renderTable } = await import('./render.ts');
  process.stdout.write(`${renderTable(lines.map(rowOf), COLUMNS, terminalWidth())}\n`);
}

function rowOf(line: string): JsonObject {
  let read: { [key: string]: unknown };
  try {
    read = JSON.parse(line);
  } catch {
    return { what: 'no line of a trail: flowmesh audit verify says more' };
  }
  const { seq, at, event, who, from, tool, route, on, lines, outcome } = read as Record<string, never>;
  const caller = who as { id: string | null; name?: string } | undefined;
  const record = on as { kind: string; id: string } | undefined;
  return {
    seq: seq ?? null,
    at: at ?? null,
    who: caller?.id ?? null,
    from: from ?? null,
    what: tool ?? route ?? (lines === undefined ? event : `${lines} lines lost`) ?? null,
    on: record === undefined ? null : `${record.kind} ${record.id}`,
    outcome: outcome ?? null,
  };
}
