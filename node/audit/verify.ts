/**
 * Reads a whole trail and finds the first line that is not as it was written: altered, missing, out of its place, or cut
 * off at the end. What somebody has written anew as a whole fits together again: then only a head that was kept elsewhere
 * (`expected`) tells.
 *
 *   const { problem, lines } = await verifyTrail(join(dataDir, 'audit'));
 */
import { createReadStream } from 'node:fs';
import { FlowmeshError } from '../../dag/errors.ts';
import { TRAIL_LINE_BYTES_MAX } from './limits.ts';
import {
  GENESIS,
  HEAD_MISSING,
  hashOf,
  readHead,
  readLine,
  type TrailHead,
  type TrailLink,
  trailFiles,
} from './line.ts';

/** A peer that writes may remove its oldest file while it is read. */
const READS_MAX = 3;
const LINE_FEED = 10;

export interface TrailVerdict {
  lines: number;
  files: number;
  /** The numbers of the first and the last line; null when there is none. */
  first_seq: number | null;
  last_seq: number | null;
  /** Of the last line. Kept elsewhere, it proves later that nothing before it was written anew. */
  last_hash: string | null;
  /** Lines that could not be written, and why, after the line with this number. */
  lost: { seq: number; lines: number; why: string }[];
  problem: TrailProblem | null;
}

export interface TrailProblem {
  kind: 'altered' | 'missing' | 'reordered' | 'cut' | 'no_head';
  /** File and line in it (from 1) where it shows; null where there is no such line. */
  at: string | null;
  /** The number of the line that is altered, missing, or not in its place; null when its number is not known. */
  seq: number | null;
  message: string;
}

/** There is nothing that could be verified. */
export class NoTrailError extends FlowmeshError {
  constructor(folder: string, cause?: unknown) {
    super(
      'NO_AUDIT_TRAIL',
      `there is no audit trail in ${folder}: a peer keeps one in its data folder when it is started with auth, or with --audit; name the folder with --data-dir`,
      { details: { folder }, cause },
    );
  }
}

interface Line {
  /** `trail-000000000001.jsonl:7` */
  at: string;
  hash: string;
  /** Undefined for what is no line of a trail. */
  link: TrailLink | undefined;
}

/**
 * @param expected a line that is known from elsewhere
 * @throws NoTrailError, what the system says
 */
export async function verifyTrail(folder: string, expected?: { seq: number; hash: string }): Promise<TrailVerdict> {
  for (let reads = 1; ; reads++) {
    // First the head: the lines that it knows are written.
    const head = await readHead(folder);
    const last = reads === READS_MAX;
    try {
      const verdict = await readTrail(folder, head, expected);
      if (verdict.problem === null || last || (await readHead(folder))?.first === head?.first) return verdict;
    } catch (error) {
      if (last || (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}

async function readTrail(
  folder: string,
  head: TrailHead | undefined,
  expected: { seq: number; hash: string } | undefined,
): Promise<TrailVerdict> {
  const files = await trailFiles(folder).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT' || error.code === 'ENOTDIR' ? new NoTrailError(folder, error) : error;
  });
  if (files.length === 0 && head === undefined) throw new NoTrailError(folder);
  const verdict: TrailVerdict = {
    lines: 0,
    files: files.length,
    first_seq: null,
    last_seq: null,
    last_hash: null,
    lost: [],
    problem: null,
  };
  const known = [head, expected].filter((each) => each !== undefined);
  const lines = linesOf(files);
  let before: Line | undefined;
  for (let next = await lines.next(); !next.done && verdict.problem === null; ) {
    const line = next.value;
    next = await lines.next();
    const after = next.done ? undefined : next.value;
    verdict.problem = await problemOf(line, before, after, { head, known, lines });
    if (verdict.problem !== null) break;
    const { seq, event, outcome, lines: count = 0 } = line.link!;
    verdict.lines += 1;
    verdict.first_seq ??= seq;
    verdict.last_seq = seq;
    verdict.last_hash = line.hash;
    if (event === 'lost') verdict.lost.push({ seq: seq - 1, lines: count, why: outcome });
    before = line;
  }
  verdict.problem ??= problemOfEnd(verdict.last_seq, head, expected);
  return verdict;
}

interface Surroundings {
  head: TrailHead | undefined;
  /** Lines whose hash is known from elsewhere than the trail. */
  known: { seq: number; hash: string }[];
  /** What comes after `after`. */
  lines: AsyncGenerator<Line>;
}

async function problemOf(
  line: Line,
  before: Line | undefined,
  after: Line | undefined,
  { head, known, lines }: Surroundings,
): Promise<TrailProblem | null> {
  const { at, hash, link } = line;
  const wanted = before === undefined ? undefined : before.link!.seq + 1;
  const altered = (which: Line, seq: number | null): TrailProblem => {
    const message = `${seq === null ? 'this line' : `line ${seq}`} was altered: it does not fit the lines beside it`;
    return { kind: 'altered', at: which.at, seq, message };
  };
  if (link === undefined) return altered(line, wanted ?? null);
  const { seq, prev } = link;
  if (before !== undefined && wanted !== undefined) {
    const isTied = prev === before.hash;
    if (isTied && seq !== wanted) return altered(line, wanted);
    if (seq > wanted) return await absent(wanted, line, before, after, lines);
    if (seq < wanted) {
      return {
        kind: 'reordered',
        at,
        seq,
        message: `line ${seq} is not in its place: it stands after line ${wanted - 1}`,
      };
    }
    // The line after tells which of the two is as it was written.
    if (!isTied)
      return after?.link?.prev === hash || isKnown(known, seq, hash) ? altered(before, seq - 1) : altered(line, seq);
  } else {
    const first = head?.first ?? 1;
    if (seq > first && head !== undefined) {
      const message = `lines ${first} to ${seq - 1} are missing at the beginning`;
      return { kind: 'missing', at, seq: first, message };
    }
    if (seq === 1 && prev !== GENESIS) return altered(line, seq);
  }
  if (link.event === 'start' && link.outcome === HEAD_MISSING) return afterNoHead(at, seq);
  for (const each of known) {
    if (each.seq !== seq || each.hash === hash) continue;
    if (each === head && after?.link?.prev === hash) {
      return {
        kind: 'altered',
        at: 'head.json',
        seq: null,
        message: `head.json was altered: line ${seq} is another one`,
      };
    }
    return altered(line, seq);
  }
  return null;
}

/** The line that should stand here is further on, or nowhere. */
async function absent(
  wanted: number,
  { at, link }: Line,
  before: Line,
  after: Line | undefined,
  lines: AsyncGenerator<Line>,
): Promise<TrailProblem> {
  const isWanted = (each: Line | undefined) => each?.link?.seq === wanted && each.link.prev === before.hash;
  let place = isWanted(after) ? after : undefined;
  if (place === undefined) {
    for await (const each of lines) {
      if (!isWanted(each)) continue;
      place = each;
      break;
    }
  }
  if (place !== undefined) {
    const message = `line ${wanted} is not in its place: it stands at ${place.at}, and line ${link!.seq} here`;
    return { kind: 'reordered', at, seq: wanted, message };
  }
  const upTo = link!.seq - 1;
  const message = wanted === upTo ? `line ${wanted} is missing` : `lines ${wanted} to ${upTo} are missing`;
  return { kind: 'missing', at, seq: wanted, message: `${message}: line ${link!.seq} follows line ${wanted - 1}` };
}

function problemOfEnd(
  lastSeq: number | null,
  head: TrailHead | undefined,
  expected: { seq: number; hash: string } | undefined,
): TrailProblem | null {
  if (head === undefined) {
    const message = 'head.json is missing or not readable: nobody can know whether lines were cut off the end';
    return { kind: 'no_head', at: null, seq: null, message };
  }
  const from = (lastSeq ?? head.first - 1) + 1;
  const to = Math.max(head.seq, expected?.seq ?? 0);
  if (to < from) return null;
  const message = `${from === to ? `line ${to} was` : `lines ${from} to ${to} were`} cut off the end`;
  return { kind: 'cut', at: null, seq: from, message };
}

function afterNoHead(at: string, seq: number): TrailProblem {
  const message = `the peer found no head.json when it wrote line ${seq}: nobody can know whether lines were cut off before it`;
  return { kind: 'no_head', at, seq, message };
}

function isKnown(known: Surroundings['known'], seq: number, hash: string): boolean {
  return known.some((each) => each.seq === seq && each.hash === hash);
}

/** Whole lines, byte by byte: a text that was decoded may look like what it was before somebody altered it. */
async function* linesOf(files: readonly { path: string; name: string }[]): AsyncGenerator<Line> {
  for (const { path, name } of files) {
    let number = 0;
    let rest = Buffer.alloc(0);
    for await (const chunk of createReadStream(path)) {
      let text = Buffer.concat([rest, chunk as Buffer]);
      for (let feed = text.indexOf(LINE_FEED); feed !== -1; feed = text.indexOf(LINE_FEED)) {
        number += 1;
        yield lineAt(`${name}:${number}`, text.subarray(0, feed));
        text = text.subarray(feed + 1);
      }
      rest = text;
      if (rest.length <= TRAIL_LINE_BYTES_MAX) continue;
      yield lineAt(`${name}:${number + 1}`, rest);
      return;
    }
    // What is left has no end: a peer writes it just now, or was killed as it did. The head does not know it.
  }
}

function lineAt(at: string, bytes: Buffer): Line {
  return { at, hash: hashOf(bytes), link: readLine(bytes.toString()) };
}
