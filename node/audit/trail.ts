/**
 * Writes the audit trail of a peer (its format: `line.ts`).
 *
 *   const trail = await AuditTrail.open(join(dataDir, 'audit'), { clock, log });
 *   trail.record({ event: 'call', who: { id: 'key:ci' }, tool: 'task_cancel', outcome: 'ok' });
 *   await trail.close();
 *
 * 1. `record` only queues: no answer waits for the disk. Lines are written in batches, off the event loop.
 * 2. A write that fails stops nothing. What could not be written waits, and is tried again; what is too much is counted,
 *    and a line `lost` says how many lines are missing in its place (P7).
 * 3. The trail goes on from `head.json`. So what was cut off, or altered, at its end while the peer was away does not fit
 *    what follows. Only lines after the head, of a peer that was killed, are taken as they are.
 */
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, rename, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FlowmeshError } from '../../dag/errors.ts';
import type { Clock, Log } from '../../scheduler/ports.ts';
import type { Principal } from '../auth/principal.ts';
import { PRIVATE_FILE_MODE, PRIVATE_FOLDER_MODE } from '../private-file.ts';
import {
  TRAIL_BATCH_LINES_MAX,
  TRAIL_FILE_BYTES_MAX,
  TRAIL_FILES_MAX,
  TRAIL_HEAD_EVERY_MS,
  TRAIL_LINE_BYTES_MAX,
  TRAIL_LINES_WAITING_MAX,
  TRAIL_RETRY_MS,
  TRAIL_WRITE_EVERY_MS,
} from './limits.ts';
import {
  fileNameOf,
  GENESIS,
  HEAD_MISSING,
  hashOf,
  headFile,
  lineOf,
  readHead,
  readLine,
  type TrailEntry,
  type TrailHead,
  trailFiles,
} from './line.ts';

const LINE_FEED = '\n';

/** Who makes a request, as a line says it. */
export function nameOf({ caller, name, origin }: Principal): Pick<TrailEntry, 'who' | 'from' | 'session'> {
  return { who: { id: caller.id, name }, ...origin };
}

/** Who has something to tell the trail knows only this of it. */
export interface Trail {
  record(entry: TrailEntry): void;
}

export interface TrailOptions {
  clock: Clock;
  log: Log;
  /** Default: TRAIL_FILE_BYTES_MAX. */
  file_bytes_max?: number;
  /** Default: TRAIL_FILES_MAX. */
  files_max?: number;
  /** Default: TRAIL_LINES_WAITING_MAX. */
  lines_waiting_max?: number;
}

/** The trail cannot be kept in the folder. */
export class TrailUnusableError extends FlowmeshError {
  constructor(folder: string, cause: unknown) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super(
      'AUDIT_UNUSABLE',
      `the audit trail in ${folder} cannot be read or written (${why}). Give the user of this peer the right to it, or move it away: a new one begins`,
      { details: { folder }, cause },
    );
  }
}

interface LineRef {
  seq: number;
  hash: string;
}

/** Text that is tied to what was written before, and waits to be written. */
interface Batch {
  text: Buffer;
  lines: number;
  firstSeq: number;
  /** The last of its lines. */
  end: LineRef;
}

export class AuditTrail implements Trail {
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #fileBytesMax: number;
  readonly #filesMax: number;
  readonly #waitingMax: number;

  #waiting: { entry: TrailEntry; at: number }[] = [];
  /** The last line that has its number. */
  #tied: LineRef;
  /** Tied and not written, because a write failed. */
  #unwritten: Batch | undefined;
  /** The last line that is in a file. */
  #saved: LineRef;
  /** The last line that `head.json` knows. */
  #headSeq: number;
  #headAt = Number.NEGATIVE_INFINITY;

  /** The first numbers of the files that are kept, oldest first. */
  readonly #files: number[];
  #firstKept: number;
  /** The newest file, and how many of its bytes are whole lines. */
  #handle: FileHandle | undefined;
  #size: number;

  /** Lines that found no room, since the last that did; and since the start. */
  #lostNow = 0;
  #lost = 0;
  #written = 0;
  #failure: string | undefined;
  #turn: Promise<void> | undefined;
  #callOff: (() => void) | undefined;
  #closed = false;

  private constructor(folder: string, options: TrailOptions, found: FoundTrail) {
    this.#folder = folder;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#fileBytesMax = options.file_bytes_max ?? TRAIL_FILE_BYTES_MAX;
    this.#filesMax = options.files_max ?? TRAIL_FILES_MAX;
    this.#waitingMax = options.lines_waiting_max ?? TRAIL_LINES_WAITING_MAX;
    this.#files = found.files;
    this.#firstKept = found.firstKept;
    this.#size = found.size;
    this.#tied = found.end;
    this.#saved = found.end;
    this.#headSeq = found.headSeq;
  }

  /**
   * Makes the folder when there is none, and goes on with the trail that is there.
   *
   * @throws TrailUnusableError when what is there cannot be read
   */
  static async open(folder: string, options: TrailOptions): Promise<AuditTrail> {
    const found = await findTrail(folder).catch((error: unknown) => {
      throw new TrailUnusableError(folder, error);
    });
    // Kept elsewhere, these lines of the log show who has written the whole trail anew.
    options.log.info({ folder, ...found.end }, 'audit trail opened');
    if (found.isHeadless)
      options.log.error(
        { folder },
        'head.json of the audit trail is missing: nobody can know what was cut off its end',
      );
    const trail = new AuditTrail(folder, options, found);
    trail.record({ event: 'start', outcome: found.isHeadless ? HEAD_MISSING : 'ok' });
    return trail;
  }

  record(entry: TrailEntry): void {
    if (this.#closed || this.#waiting.length >= this.#waitingMax) {
      this.#lostNow += 1;
      this.#lost += 1;
      return;
    }
    this.#waiting.push({ entry, at: this.#clock.wall() });
    if (this.#turn !== undefined || this.#callOff !== undefined) return;
    this.#callOff = () => {}; // A closed trail takes no turn.
    this.#clock.defer(() => this.#takeTurn());
  }

  /** Lines since the start that are in a file, and that never will be. */
  figures(): { written: number; lost: number; failing: boolean } {
    return { written: this.#written, lost: this.#lost, failing: this.#failure !== undefined };
  }

  /** Writes what waits, if it can be written. What is recorded from now on is lost. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#callOff?.();
    await this.#turn;
    try {
      await this.#writeAll();
      await this.#handle?.datasync();
      await this.#writeHead();
    } catch (error) {
      this.#failed(error);
    }
    await this.#closeFile();
    const lines = this.#waiting.length + (this.#unwritten?.lines ?? 0) + this.#lostNow;
    if (lines > 0) this.#log.error({ lines }, 'the peer stops, and these lines of its audit trail are not written');
    this.#log.info({ ...this.#saved }, 'audit trail closed');
  }

  #takeTurn(): void {
    this.#callOff = undefined;
    if (this.#closed) return;
    this.#turn = this.#writeInTurn().finally(() => {
      this.#turn = undefined;
      const isBehind = this.#waiting.length > 0 || this.#unwritten !== undefined || this.#headSeq !== this.#saved.seq;
      if (this.#closed || !isBehind) return;
      const delayMs = this.#failure === undefined ? TRAIL_WRITE_EVERY_MS : TRAIL_RETRY_MS;
      this.#callOff = this.#clock.after(delayMs, () => this.#takeTurn());
    });
  }

  async #writeInTurn(): Promise<void> {
    try {
      const isQuiet = !(await this.#writeAll());
      if (isQuiet || this.#clock.now() - this.#headAt >= TRAIL_HEAD_EVERY_MS) await this.#writeHead();
      this.#recovered();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** @returns whether there was something to write */
  async #writeAll(): Promise<boolean> {
    for (let wrote = false; ; wrote = true) {
      this.#unwritten ??= this.#tieBatch();
      if (this.#unwritten === undefined) return wrote;
      await this.#append(this.#unwritten);
      this.#saved = this.#unwritten.end;
      this.#written += this.#unwritten.lines;
      this.#unwritten = undefined;
    }
  }

  /** Gives what waits its numbers, as much of it as a batch may have. */
  #tieBatch(): Batch | undefined {
    const taken = this.#waiting.splice(0, TRAIL_BATCH_LINES_MAX);
    // All that waited is older than what found no room.
    if (this.#lostNow > 0 && this.#waiting.length === 0) {
      const entry: TrailEntry = { event: 'lost', lines: this.#lostNow, outcome: this.#failure ?? 'TOO_MANY' };
      taken.push({ entry, at: this.#clock.wall() });
      this.#lostNow = 0;
    }
    if (taken.length === 0) return undefined;
    const firstSeq = this.#tied.seq + 1;
    let { seq, hash } = this.#tied;
    let text = '';
    for (const { entry, at } of taken) {
      seq += 1;
      const line = lineOf(entry, at, seq, hash);
      hash = hashOf(line);
      text += line + LINE_FEED;
    }
    this.#tied = { seq, hash };
    return { text: Buffer.from(text), lines: taken.length, firstSeq, end: this.#tied };
  }

  async #append({ text, firstSeq }: Batch): Promise<void> {
    if (this.#files.length === 0 || (this.#size > 0 && this.#size + text.length > this.#fileBytesMax)) {
      await this.#handle?.datasync();
      await this.#closeFile();
      this.#files.push(firstSeq);
      this.#size = 0;
    }
    while (this.#files.length > this.#filesMax) await this.#removeOldest();
    this.#handle ??= await this.#openFile();
    // At a place, and not at the end: what a write that failed has left there is written over.
    for (let done = 0; done < text.length; ) {
      const { bytesWritten } = await this.#handle.write(text, done, text.length - done, this.#size + done);
      done += bytesWritten;
    }
    this.#size += text.length;
  }

  async #openFile(): Promise<FileHandle> {
    const path = join(this.#folder, fileNameOf(this.#files.at(-1)!));
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT, PRIVATE_FILE_MODE);
    try {
      // A file that somebody has cut meanwhile gets no hole: it shows by its numbers that lines are missing.
      this.#size = Math.min(this.#size, (await handle.stat()).size);
      await handle.truncate(this.#size);
      return handle;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async #closeFile(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  async #removeOldest(): Promise<void> {
    const [oldest, next] = this.#files as [number, number];
    this.#firstKept = Math.max(this.#firstKept, next);
    await this.#writeHead(); // So that it is known to be gone on purpose.
    await unlink(join(this.#folder, fileNameOf(oldest))).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') this.#log.warn({ err: error }, 'an old file of the audit trail cannot be removed');
    });
    this.#files.shift();
  }

  async #writeHead(): Promise<void> {
    const head: TrailHead = { first: this.#firstKept, ...this.#saved };
    const file = headFile(this.#folder);
    await writeFile(`${file}.tmp`, `${JSON.stringify(head)}\n`, { mode: PRIVATE_FILE_MODE });
    await rename(`${file}.tmp`, file);
    this.#headSeq = head.seq;
    this.#headAt = this.#clock.now();
  }

  #failed(error: unknown): void {
    if (this.#failure === undefined) {
      const text =
        'the audit trail cannot be written: its lines wait while there is room for them, and it is tried again; the peer goes on';
      this.#log.error({ err: error, folder: this.#folder }, text);
    }
    this.#failure = (error as NodeJS.ErrnoException).code ?? 'WRITE_FAILED';
    // It may be the file that is wrong. That it does not close either is nothing new.
    this.#closeFile().catch(() => {});
  }

  #recovered(): void {
    if (this.#failure === undefined) return;
    this.#failure = undefined;
    this.#log.info({ lost: this.#lost }, 'the audit trail is written again; a line in it says how many are lost');
  }
}

/** Where a trail ended. */
interface FoundTrail {
  /** As `#files`. */
  files: number[];
  firstKept: number;
  /** Of the newest file, the bytes that are whole lines. */
  size: number;
  end: LineRef;
  headSeq: number;
  /** There are lines and no head. */
  isHeadless: boolean;
}

/** @throws what the system says */
async function findTrail(folder: string): Promise<FoundTrail> {
  await mkdir(folder, { recursive: true, mode: PRIVATE_FOLDER_MODE });
  const head = await readHead(folder);
  const files = await trailFiles(folder);
  let size: number | undefined;
  let last: LineRef | undefined;
  // The newest has no line when the peer was killed as it made it.
  for (const { path } of files.toReversed()) {
    const end = await endOf(path);
    size ??= end.size;
    last = end.last;
    if (end.size > 0) break;
  }
  let end = head ?? last ?? { seq: Math.max(0, (files.at(-1)?.first ?? 1) - 1), hash: GENESIS };
  if (head !== undefined && last !== undefined && last.seq > head.seq) end = last;
  return {
    files: files.map(({ first }) => first),
    firstKept: head?.first ?? files[0]?.first ?? 1,
    size: size ?? 0,
    end: { seq: end.seq, hash: end.hash },
    headSeq: head?.seq ?? -1,
    isHeadless: head === undefined && files.length > 0,
  };
}

/** The last whole line of a file (undefined when it cannot be read), and where it ends. */
async function endOf(path: string): Promise<{ size: number; last: LineRef | undefined }> {
  const handle = await open(path);
  try {
    const { size: bytes } = await handle.stat();
    const from = Math.max(0, bytes - 2 * TRAIL_LINE_BYTES_MAX);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(bytes - from), 0, bytes - from, from);
    const feed = buffer.subarray(0, bytesRead).lastIndexOf(LINE_FEED);
    if (feed === -1) return { size: from === 0 ? 0 : bytes, last: undefined };
    const line = buffer.subarray(buffer.subarray(0, feed).lastIndexOf(LINE_FEED) + 1, feed);
    const link = readLine(line.toString());
    return { size: from + feed + 1, last: link && { seq: link.seq, hash: hashOf(line) } };
  } finally {
    await handle.close();
  }
}
