/**
 * Reads from this peer's own disk. P1: rows that are not on as many disks as they have to be yet are not shown; and what
 * is shown of a feed that another peer writes says how old it may be.
 */
import type { Row } from '../scheduler/records.ts';
import type { ReadContext, Reading, ReadTool } from './definition.ts';
import type { ParsedInput } from './run.ts';

/** What a read found, and the commits that its rows are from. */
export interface Found {
  output: object;
  /** Per feed the last commit among them. */
  seqs: Map<string, number>;
}

/**
 * @param copyOf the owner, when a copy is to be read
 * @returns undefined when the record is not here
 */
export async function readFrom(
  tool: ReadTool,
  input: ParsedInput,
  { reader, clock, self, feeds }: ReadContext,
  copyOf?: string,
): Promise<Found | undefined> {
  const seqs = new Map<string, number>();
  const watching = reader.watching((feedId, seq) => {
    if (seq > (seqs.get(feedId) ?? 0)) seqs.set(feedId, seq);
  });
  // A tool that is about one record has read it by then: its feed is the first one.
  const feedRead = () => seqs.keys().next().value;
  const reading: Reading = {
    reader: copyOf === undefined ? watching : copiesFirst(watching),
    clock,
    self,
    owner: copyOf ?? self,
    isCopy: copyOf !== undefined,
    durability(wanted) {
      const feedId = feedRead();
      return feedId === undefined ? null : feeds.durabilityOf(feedId, wanted);
    },
  };
  const output = await tool.handler(input, reading);
  if (output === undefined) return undefined;
  const feedId = tool.about === undefined ? undefined : feedRead();
  const staleMs = feedId === undefined ? null : feeds.staleMs(feedId);
  return { output: staleMs === null ? output : { ...output, stale_ms: Math.round(staleMs) }, seqs };
}

/** P1: whether everything that was read may be shown now. */
export function isReleased({ seqs }: Found, { feeds }: ReadContext): boolean {
  for (const [feedId, seq] of seqs) if (!feeds.isReleased(feedId, seq)) return false;
  return true;
}

/** The same reader, to which ids name the records of other peers. */
function copiesFirst(reader: Reading['reader']): Reading['reader'] {
  const byAlias = async (kind: Row['record']['kind'], alias: string) =>
    kind === 'workflow' || kind === 'task' ? (await reader.copyByAlias(kind, alias))?.record : undefined;
  return Object.assign(Object.create(reader) as Reading['reader'], { byAlias });
}
