/**
 * Reads from this peer's own disk. Rows are shown only when they are on as many disks as they have to be (P1), and an
 * answer from a copy of another peer's feed says how old it may be.
 */
import type { Durability } from '../../scheduler/api.ts';
import { maySee } from '../../scheduler/caller.ts';
import type { Reader } from '../../scheduler/ports.ts';
import type { FlowRecord } from '../../scheduler/records.ts';
import type { MeshContext, ReadContext, Reading, ReadTool } from '../definition.ts';
import type { ParsedInput } from './envelope.ts';

/** The output of a read, and the commits that it was read from. */
export interface Found {
  output: object;
  commits: Commits;
  /** Gives what `output.durability` would be now. Absent when the output does not have that field. */
  durability?: (() => Durability | null) | undefined;
}

/** By feed id, the seq of the newest commit of which a row was read. */
type Commits = ReadonlyMap<string, number>;

/** A reader that notes the commits of the rows that are read through it. */
function watched(reader: Reader): { reader: Reader; commits: Commits } {
  const commits = new Map<string, number>();
  const onRow = (feedId: string, seq: number) => {
    if (seq > (commits.get(feedId) ?? 0)) commits.set(feedId, seq);
  };
  return { reader: reader.watching(onRow), commits };
}

/**
 * Runs a read tool on this peer's disk, whether its rows may be shown yet or not.
 *
 * @param copyOf the owner's peer id, to read a copy of its record instead of a record of this peer
 * @returns undefined when the record is not here
 */
export async function readFrom(
  tool: ReadTool,
  input: ParsedInput,
  { reader: all, clock, self, feeds, caller, whyWaiting }: ReadContext,
  copyOf?: string,
): Promise<Found | undefined> {
  const { reader, commits } = watched(all);
  let durability: Found['durability'];
  // A tool that is about one record has read it by the time this is called, and reads from no other feed.
  const feedRead = () => (tool.about === undefined ? undefined : commits.keys().next().value);
  const reading: Reading = {
    reader,
    clock,
    self,
    caller,
    owner: copyOf ?? self,
    isCopy: copyOf !== undefined,
    whyWaiting,
    async record(kind, id) {
      const found =
        copyOf === undefined ? await reader.byAlias(kind, id) : (await reader.copyByAlias(kind, id))?.record;
      const record = found as Extract<FlowRecord, { kind: typeof kind }> | undefined;
      return record !== undefined && maySee(caller, record) ? record : undefined;
    },
    durability(wanted) {
      durability = () => {
        const feedId = feedRead();
        return feedId === undefined ? null : feeds.durabilityOf(feedId, commits.get(feedId)!, wanted);
      };
      return durability();
    },
  };
  const output = await tool.handler(input, reading);
  if (output === undefined) return undefined;
  const feedId = feedRead();
  const staleMs = feedId === undefined ? null : feeds.staleMs(feedId);
  return { output: staleMs === null ? output : { ...output, stale_ms: Math.round(staleMs) }, commits, durability };
}

/** Whether everything that was read may be shown now (P1). */
export function mayBeShown({ commits }: Found, { feeds }: ReadContext): boolean {
  for (const [feedId, seq] of commits) if (!feeds.isReleased(feedId, seq)) return false;
  return true;
}

/** As `readFrom`, but resolves with the output only once everything that was read may be shown (P1). */
export async function readReleased(
  tool: ReadTool,
  input: ParsedInput,
  context: MeshContext,
  copyOf?: string,
): Promise<object | undefined> {
  const found = await readFrom(tool, input, context, copyOf);
  if (found === undefined) return undefined;
  await released(found.commits, context);
  // The rows may have reached more disks while this waited.
  const now = found.durability?.() ?? null;
  return now === null ? found.output : { ...found.output, durability: now };
}

/** As `readReleased`, for the answers of several peers put together. */
export async function mergeReleased(
  merge: NonNullable<ReadTool['merge']>,
  input: ParsedInput,
  context: MeshContext,
): Promise<object> {
  const { reader, commits } = watched(context.reader);
  const output = await merge.handler(input, { ...context, reader });
  await released(commits, context);
  return output;
}

async function released(commits: Commits, { scheduler }: MeshContext): Promise<void> {
  for (const [feedId, seq] of commits) await scheduler.whenReleased(feedId, seq);
}
