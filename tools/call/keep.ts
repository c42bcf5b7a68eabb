/**
 * The operation behind a change that waited in vain for an owner: another peer hands the call to this one, which has a
 * copy of the record and may be its next owner. Not a tool over MCP, and not in the registry.
 */
import { z } from 'zod';
import type { JsonObject } from '../../dag/errors.ts';
import { jsonObject } from '../../dag/json.ts';
import { defineMeshTool, type Tool } from '../definition.ts';
import { tools } from '../registry.ts';
import { answerOperation } from '../task/answer.ts';
import { parseInput } from './envelope.ts';
import { KEEP_OPERATION } from './failover.ts';

/** What may be kept for the next owner of a record. */
const KEPT = [...tools.values(), answerOperation].filter((tool) => tool.runtime === 'mesh' && tool.whenKept);

/** Whether a call of this tool may come from a peer that kept it. */
export function mayBeKept({ name }: Tool): boolean {
  return KEPT.some((tool) => tool.name === name);
}

export const keepOperation: Tool = defineMeshTool({
  name: KEEP_OPERATION,
  title: 'Keep a call for the next owner',
  description: 'Keeps a cancel or an answer until somebody owns the record again.',
  input: z.strictObject({ tool: z.enum(KEPT.map(({ name }) => name)), input: jsonObject }),
  output: z.object({ status: z.string() }),
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  permission: 'task:write',
  async handler({ tool: name, input }, { scheduler, caller }) {
    const tool = KEPT.find((each) => each.name === name)!;
    const parsed = parseInput(tool, input);
    return await scheduler.deferCall(tool.about!(parsed), name, parsed as JsonObject, caller);
  },
});
