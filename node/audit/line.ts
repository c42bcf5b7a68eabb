/**
 * The format of the trail: one JSON object a line, tied to the line before it.
 *
 *   audit/trail-000000000001.jsonl   named after the number of its first line
 *   audit/head.json                  {"first":1,"seq":7,"hash":"…"}: what is kept, and the last line, written after the lines
 *
 *   {"seq":7,"at":"2026-12-01T16:00:00.000Z","event":"call","who":{"id":"key:ci"},"from":"10.0.0.7","tool":"task_cancel",
 *    "on":{"kind":"task","id":"t1"},"outcome":"ok","prev":"<hash of line 6>"}
 *
 * 1. `prev` is the SHA-256 of the bytes of the line before, without its line feed; of the first line ever, GENESIS.
 * 2. A line is ASCII: what others wrote is cut and escaped, and neither moves a cursor nor begins a line.
 * 3. A line says who did what to which record. It has no inputs, no outputs, no keys and no tokens.
 */
import { hash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { TRAIL_TEXT_CHARS_MAX } from './limits.ts';

export const GENESIS = '0'.repeat(64);
/** The outcome of a `start` that found lines and no head. */
export const HEAD_MISSING = 'HEAD_MISSING';
const HEAD_FILE = 'head.json';
const SEQ_DIGITS = 12;

/** What is written of one event. Texts may be of any length and have any characters. */
export interface TrailEntry {
  /**
   * `call`: of a tool; `refused`: an HTTP request that came to no tool; `change`: of keys or members; `start`: of the
   * peer; `lost`: lines that could not be written were given up here.
   */
  event: 'call' | 'refused' | 'change' | 'start' | 'lost';
  /** The caller; absent when it is not known who asks. `id` is null where nobody is asked. */
  who?: { id: string | null; name?: string | undefined } | undefined;
  /** Its address. */
  from?: string | undefined;
  session?: string | undefined;
  tool?: string | undefined;
  /** `POST /mcp`, without a query. */
  route?: string | undefined;
  on?: { kind: string; id: string } | undefined;
  /** How many, of what is lost. */
  lines?: number | undefined;
  /** `ok`, or the code of the error. */
  outcome: string;
}

/** The last line that is known to be written, and the number of the first that is kept. */
export interface TrailHead {
  first: number;
  seq: number;
  hash: string;
}

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);
const headSchema = z.strictObject({ first: z.int().min(1), seq: z.int().min(0), hash: sha256Schema });
/** What ties lines together; and what `start` and `lost` are to a reader. */
const linkSchema = z.looseObject({
  seq: z.int().min(1),
  prev: sha256Schema,
  event: z.string(),
  outcome: z.string(),
  lines: z.int().optional(),
});
export type TrailLink = z.infer<typeof linkSchema>;

/** @param at ms since 1970 */
export function lineOf(entry: TrailEntry, at: number, seq: number, prev: string): string {
  const { event, who, from, session, tool, route, on, lines, outcome } = entry;
  const line = {
    seq,
    at: new Date(at).toISOString(),
    event,
    who: who && { id: who.id && bounded(who.id), name: who.name && bounded(who.name) },
    from: from && bounded(from),
    session: session && bounded(session),
    tool: tool && bounded(tool),
    route: route && bounded(route),
    on: on && { kind: bounded(on.kind), id: bounded(on.id) },
    lines,
    outcome: bounded(outcome),
    prev,
  };
  return ascii(JSON.stringify(line));
}

export function hashOf(line: string | Uint8Array): string {
  return hash('sha256', line);
}

/** Undefined for what is no line of a trail. */
export function readLine(line: string): TrailLink | undefined {
  try {
    return linkSchema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined; // Not JSON: said by the caller, with its place.
  }
}

export function fileNameOf(firstSeq: number): string {
  return `trail-${String(firstSeq).padStart(SEQ_DIGITS, '0')}.jsonl`;
}

/** The files of a trail, oldest first. @throws what the system says */
export async function trailFiles(folder: string): Promise<{ path: string; name: string; first: number }[]> {
  const found = (await readdir(folder)).flatMap((name) => {
    const first = /^trail-(\d{12,16})\.jsonl$/.exec(name)?.[1];
    return first === undefined ? [] : [{ path: join(folder, name), name, first: Number(first) }];
  });
  return found.sort((a, b) => a.first - b.first);
}

export function headFile(folder: string): string {
  return join(folder, HEAD_FILE);
}

/** Undefined when there is none that can be read. */
export async function readHead(folder: string): Promise<TrailHead | undefined> {
  try {
    return headSchema.safeParse(JSON.parse(await readFile(headFile(folder), 'utf8'))).data;
  } catch {
    return undefined; // Missing, or not JSON: the caller says what that means.
  }
}

function bounded(text: string): string {
  return text.length > TRAIL_TEXT_CHARS_MAX ? `${text.slice(0, TRAIL_TEXT_CHARS_MAX)}…` : text;
}

/** JSON escapes what is below a space; the rest of what is not ASCII is escaped here, as the same value. */
function ascii(json: string): string {
  return json.replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
