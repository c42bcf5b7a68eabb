/**
 * `scope: "mesh"`: the answers of several peers, put together. A peer that does not answer, or answers in another
 * shape, is named in `missing`; nothing is guessed in its place.
 */
import type { z } from 'zod';
import type { JsonObject } from '../../dag/errors.ts';
import type { MeshContext } from '../definition.ts';
import { MergeReachError } from '../errors.ts';
import { LIST_LIMIT_MAX } from '../fields.ts';

/** The most that `offset + limit` of a merged list may be: every peer is asked for that many items. */
export const MERGE_REACH_MAX = 10_000;

export interface Answers<O> {
  answers: { peer_id: string; output: O }[];
  /** Peer ids, sorted. */
  missing: string[];
}

/**
 * Runs a tool on every connected peer.
 * @param output the schema that each answer is checked against
 * @returns the answers in the order of peer ids
 */
export async function askPeers<O extends z.ZodObject>(
  context: MeshContext,
  tool: string,
  output: O,
  input: object,
): Promise<Answers<z.output<O>>> {
  const { outputs, missing } = await context.everywhere(tool, input as JsonObject);
  const answers: Answers<z.output<O>>['answers'] = [];
  const unreadable: string[] = [];
  for (const { peer_id, output: raw } of outputs) {
    if (peer_id === context.self) continue;
    const parsed = output.safeParse(raw);
    if (parsed.success) answers.push({ peer_id, output: parsed.data });
    else unreadable.push(peer_id);
  }
  answers.sort((a, b) => (a.peer_id < b.peer_id ? -1 : 1));
  return { answers, missing: [...missing, ...unreadable].sort() };
}

export interface Page<Item> {
  items: Item[];
  total_count: number;
  has_more: boolean;
}

/** Where the items of a merged list come from: this peer, and the others. */
export interface MergeSources<Item> {
  local(page: { limit: number; offset: number }): Promise<Page<Item>>;
  peers(page: { limit: number; offset: number }): Promise<Answers<Page<Item>>>;
}

/**
 * One page of a list over all peers. Each peer is asked for its first `offset + limit` items, in rounds of at most
 * LIST_LIMIT_MAX; the merged list is sorted, then cut.
 *
 * @param compare as of `Array.sort`; equal items keep the order of the sources
 * @throws {MergeReachError} LIMIT_EXCEEDED over MERGE_REACH_MAX
 */
export async function mergeLists<Item>(
  sources: MergeSources<Item>,
  { limit, offset }: { limit: number; offset: number },
  compare: (a: Item, b: Item) => number,
): Promise<Page<Item> & { missing: string[] }> {
  const reach = offset + limit;
  if (reach > MERGE_REACH_MAX) throw new MergeReachError(reach, MERGE_REACH_MAX);
  const items: Item[] = [];
  const totals = new Map<string, number>();
  const missing = new Set<string>();
  for (let from = 0; from < reach; from += LIST_LIMIT_MAX) {
    const page = { limit: Math.min(LIST_LIMIT_MAX, reach - from), offset: from };
    const [local, others] = await Promise.all([sources.local(page), sources.peers(page)]);
    for (const peer of others.missing) missing.add(peer);
    const pages = [{ peer_id: '', output: local }, ...others.answers];
    for (const { peer_id, output } of pages) {
      items.push(...output.items);
      totals.set(peer_id, output.total_count);
    }
    if (!pages.some(({ output }) => output.has_more)) break;
  }
  const total_count = [...totals.values()].reduce((sum, total) => sum + total, 0);
  const merged = items.sort(compare).slice(offset, reach);
  return { items: merged, total_count, has_more: offset + merged.length < total_count, missing: [...missing].sort() };
}

/** For `Array.sort`: newest first, as in lists from the store. Records of the same millisecond keep their order. */
export function newestFirst(a: { created_at: string }, b: { created_at: string }): number {
  return a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : 0;
}

/** The mean of several means, weighted by the number of values behind each; null when no mean is known. */
export function weightedMean(parts: { mean: number | null; weight: number }[]): number | null {
  let sum = 0;
  let weights = 0;
  for (const { mean, weight } of parts) {
    if (mean === null) continue;
    // A mean over tasks that all failed has weight 0, because weights count completed ones. It is a measurement, too.
    const counted = Math.max(weight, 1);
    sum += mean * counted;
    weights += counted;
  }
  return weights === 0 ? null : sum / weights;
}
