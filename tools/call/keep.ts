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

const KEPT = [...tools.values(), answerOperation].filter((tool) => tool.runtime === 'mesh' && tool.whenKept);

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
