/** `flowmesh task answer`: a person's yes or no to an `approve` step. A route of the peer, not a tool. */
import type { Command } from 'commander';
import type { JsonValue } from '../../dag/errors.ts';
import { faultText } from '../../dag/json.ts';
import { parseJson } from '../../dag/json-text.ts';
import { PeerClient } from './client.ts';
import { EXIT, UsageError } from './exit.ts';
import { findPeer, type PeerChoice } from './find-peer.ts';
import { printOutput } from './print-output.ts';
import { addPeerOptions, peerChoiceOf } from './tool-command.ts';

export interface Answer {
  task_id: string;
  approve: boolean;
  data: JsonValue;
  json: boolean;
  peer: PeerChoice;
}

export function addAnswerCommand(group: Command, run: (answer: Answer) => Promise<void>): void {
  const command = group
    .command('answer')
    .summary('Answer a task that waits for a person')
    .description(
      'Answers an approve step or task that waits for a person (status input_required). Any peer can be told.',
    )
    .argument('<task_id>', 'The task, as `flowmesh task list --status-filter input_required` shows it')
    .option('--approve', 'Yes: its output is { approved: true, data }')
    .option('--reject', 'No: it fails as REJECTED')
    .option('--data <json>', 'JSON for the steps that follow, in `data` of its output');
  addPeerOptions(command);
  command.option('--json', "Print the peer's answer as JSON").action((task_id: string) => {
    const { approve, reject, data, json } = command.opts<{
      approve?: true;
      reject?: true;
      data?: string;
      json?: true;
    }>();
    if ((approve ?? false) === (reject ?? false)) throw new UsageError('give exactly one of --approve and --reject');
    const parsed = data === undefined ? null : parseData(data);
    return run({ task_id, approve: approve ?? false, data: parsed, json: json ?? false, peer: peerChoiceOf(command) });
  });
}

export async function answerTask({ task_id, approve, data, json, peer }: Answer): Promise<number> {
  const found = await findPeer(peer, process.env, process.cwd());
  const output = await new PeerClient(found).answerTask(task_id, { approve, data });
  await printOutput(output, { json, tool: { name: 'task_answer' }, width: undefined });
  return EXIT.done;
}

function parseData(text: string): JsonValue {
  let read: ReturnType<typeof parseJson>;
  try {
    read = parseJson(text);
  } catch (cause) {
    throw new UsageError(`--data must be JSON: ${(cause as Error).message}`, { cause });
  }
  if ('value' in read) return read.value;
  throw new UsageError(`--data: ${faultText(read.fault)}`);
}
