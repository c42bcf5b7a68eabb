/** One command per tool, made from its definition: `workflow_status` is `flowmesh workflow status <workflow_id>`. */
import type { Command } from 'commander';
import type { JsonObject } from '../../dag/errors.ts';
import { callWaitMs } from '../../tools/call/envelope.ts';
import type { Tool } from '../../tools/definition.ts';
import { tools } from '../../tools/registry.ts';
import { PeerClient } from './client.ts';
import { readDocument, type SourceDocument } from './document.ts';
import { EXIT, UsageError } from './exit.ts';
import { findPeer, type PeerChoice } from './find-peer.ts';
import { warningLines, withPlaces } from './places.ts';
import { printOutput } from './print-output.ts';
import { addFields, checkInput, checkOptions, fieldsOf, inputOf } from './tool-options.ts';
import { inCommands, wordsOf } from './wording.ts';

/** Tools whose run can be followed with `--watch`. */
const WATCHED = new Set(['workflow_submit', 'workflow_status']);
const RESULTS = new Set(['workflow_result', 'task_result']);
const ENDED = new Set(['completed', 'failed', 'cancelled']);
const SUBMIT_FILE = 'file';

/** What was typed, ready to be sent. */
export interface Invocation {
  tool: Tool;
  input: JsonObject;
  json: boolean;
  watch: boolean;
  peer: PeerChoice;
  /** The workflow file of a submit: a problem that the peer finds is shown where it stands. */
  document: SourceDocument | undefined;
}

/**
 * @param complete false adds the name and description only: options are made for the command that is called
 * @param run gets what was typed once it was checked
 */
export function addToolCommand(
  group: Command,
  tool: Tool,
  complete: boolean,
  run: (invocation: Invocation) => Promise<void>,
): void {
  const command = group.command(wordsOf(tool).verb).summary(tool.title);
  if (!complete) return;
  command.description(inCommands(tool.description, tools, tool));
  const isSubmit = tool.name === 'workflow_submit';
  const whole = tool.cli?.whole ?? {};
  const fields = fieldsOf(tool).filter((field) => !isSubmit || field.name !== 'steps');
  for (const field of fields) if (field.name in whole) field.default = whole[field.name];
  const positional = isSubmit ? [] : (tool.cli?.positional ?? []);
  if (isSubmit) {
    command.argument(`<${SUBMIT_FILE}>`, 'The workflow, YAML or JSON; - reads it from stdin.');
    // The file has them; an option of the same name is stronger.
    for (const field of fields) Object.assign(field, { required: false, default: undefined });
  }
  addFields(command, fields, positional);
  if (WATCHED.has(tool.name)) command.option('--watch', 'Follow it until it ends, then print the result');
  addPeerOptions(command);
  command.option('--json', "Print the tool's output as JSON");
  command.action(async () => {
    const typed = { ...whole, ...inputOf(command, fields, positional) };
    const document = isSubmit ? await readDocument(command.args[0]!) : undefined;
    const input = document === undefined ? typed : { ...workflowOf(document), ...typed };
    if (document === undefined) checkInput(tool, input, positional);
    else checkOptions(tool, typed);
    const { json, watch } = command.opts<{ json?: boolean; watch?: boolean }>();
    await run({ tool, input, json: json ?? false, watch: watch ?? false, peer: peerChoiceOf(command), document });
  });
}

/** The options that say which peer a command talks to. */
export function addPeerOptions(command: Command): void {
  command
    .option('--url <url>', 'Talk to this peer, e.g. http://127.0.0.1:7601 [FLOWMESH_URL]')
    .option('--data-dir <folder>', 'Talk to the peer that uses this data folder [FLOWMESH_DATA_DIR]')
    .option('--mesh <name>', 'Talk to a peer of this mesh on this machine [FLOWMESH_MESH]');
}

export function peerChoiceOf(command: Command): PeerChoice {
  const { url, dataDir, mesh } = command.opts<PeerChoice>();
  return { url, dataDir, mesh };
}

/** Sends a call and prints the answer. @returns the exit code */
export async function runTool(invocation: Invocation): Promise<number> {
  const { tool, input, json, watch, document } = invocation;
  const found = await findPeer(invocation.peer, process.env, process.cwd());
  const client = new PeerClient(found);
  try {
    const output = await client.call(tool.name, input, waitOf(tool, input));
    if (!json) for (const line of warningLines(output, document)) process.stderr.write(`${line}\n`);
    if (watch) {
      const { watchWorkflow } = await import('./watch.ts');
      const workflowId = String(output['workflow_id'] ?? input['workflow_id']);
      if (output['duplicate'] === true)
        process.stderr.write(`${nothingWasRun(workflowId, String(output['status']))}\n`);
      return await watchWorkflow(found, workflowId, json);
    }
    await printOutput(output, { json, tool, width: terminalWidth(), shown: told(withoutWarnings(output), tool) });
    return tellsOfFailure(tool, output) ? EXIT.failed : EXIT.done;
  } catch (error) {
    throw document === undefined ? error : withPlaces(error, document);
  } finally {
    await client.close();
  }
}

/** The sentence that a tool answers, in the words of the command line. */
function told(output: JsonObject, tool: Tool): JsonObject {
  const { message } = output;
  return typeof message === 'string' ? { ...output, message: inCommands(message, tools, tool) } : output;
}

/** Who submits again and sees a result may think that it ran again. */
function nothingWasRun(workflowId: string, status: string): string {
  const what = ENDED.has(status) ? 'This is what came of it then.' : 'This is that run.';
  return `${workflowId} was submitted before with the same content: nothing was started now. ${what}`;
}

/** The result of what did not complete: a script that asks for it must see that. */
function tellsOfFailure(tool: Tool, output: JsonObject): boolean {
  return RESULTS.has(tool.name) && ['failed', 'cancelled'].includes(String(output['status']));
}

/** Undefined where output goes to a file or another program: then nothing is shortened. */
export function terminalWidth(): number | undefined {
  return process.stdout.isTTY ? process.stdout.columns : undefined;
}

function workflowOf(document: SourceDocument): JsonObject {
  const { value, name } = document;
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new UsageError(
    `${name}: a workflow is an object with a name and steps, not ${value === null ? 'nothing' : 'this'}`,
  );
}

function withoutWarnings(output: JsonObject): JsonObject {
  const { warnings: _, ...rest } = output;
  return rest;
}

/** What the call itself waits for. Of a file it is not known here whether the peer takes it. */
function waitOf(tool: Tool, input: JsonObject): number {
  const parsed = tool.input.safeParse(input);
  return parsed.success ? callWaitMs(tool, parsed.data) : 0;
}
