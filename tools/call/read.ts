/**
 * Reads from this peer's own disk. P1: rows that are not yet on as many disks as they have to be are not shown; and what
 * is shown of a feed that another peer writes says how old it may be.
 */
import type { Durability } from '../../scheduler/api.ts';
import type { Reader } from '../../scheduler/ports.ts';
import type { FlowRecord } from '../../scheduler/records.ts';
import type { MeshContext, ReadContext, Reading, ReadTool } from '../definition.ts';
import type { ParsedInput } from './envelope.ts';

/** What a read found, and what it was read from. */
export interface Found {
  output: object;
  commits: Commits;
  /** The durability in the output, as it is now. Absent when the output has none. */
  durability?: (() => Durability | null) | undefined;
}

/** Per feed the last commit that a row was read of. */
type Commits = ReadonlyMap<string, number>;

/** A reader, and the commits that it has read of so far. */
function watched(reader: Reader): { reader: Reader; commits: Commits } {
  const commits = new Map<string, number>();
  const onRow = (feedId: string, seq: number) => {
    if (seq > (commits.get(feedId) ?? 0)) commits.set(feedId, seq);
  };
  return { reader: reader.watching(onRow), commits };
}

/**
 * @param copyOf the owner, when a copy is to be read
 * @returns undefined when the record is not here
 */
export async function readFrom(
  tool: ReadTool,
  input: ParsedInput,
  { reader: all, clock, self, feeds, whyWaiting }: ReadContext,
  copyOf?: string,
): Promise<Found | undefined> {
  const { reader, commits } = watched(all);
  let durability: Found['durability'];
  // A tool that is about a record has read it by then: its feed is the only one.
  const feedRead = () => (tool.about === undefined ? undefined : commits.keys().next().value);
  const reading: Reading = {
    reader,
    clock,
    self,
    owner: copyOf ?? self,
    isCopy: copyOf !== undefined,
    whyWaiting,
    async record(kind, id) {
      if (copyOf === undefined) return await reader.byAlias(kind, id);
      return (await reader.copyByAlias(kind, id))?.record as Extract<FlowRecord, { kind: typeof kind }> | undefined;
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

/** P1: whether everything that was read may be shown now. */
export function mayBeShown({ commits }: Found, { feeds }: ReadContext): boolean {
  for (const [feedId, seq] of commits) if (!feeds.isReleased(feedId, seq)) return false;
  return true;
}

/** The output of a read, once everything that was read may be shown (P1). */
export async function readReleased(
  tool: ReadTool,
  input: ParsedInput,
  context: MeshContext,
  copyOf?: string,
): Promise<object | undefined> {
  const found = await readFrom(tool, input, context, copyOf);
  if (found === undefined) return undefined;
  await released(found.commits, context);
  // What was read may have got to other disks meanwhile.
  const now = found.durability?.() ?? null;
  return now === null ? found.output : { ...found.output, durability: now };
}

/** The same for answers of several peers put together. */
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
