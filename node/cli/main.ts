/**
 * The command line. `flowmesh node …` is about peers on this machine; every other command is a tool, called at a
 * peer over MCP. Only what the called command needs is loaded: a person waits for each of these modules.
 */
import { Command, CommanderError } from 'commander';
import { errorShape, FlowmeshError, RemoteError } from '../../dag/errors.ts';
import type { Tool } from '../../tools/definition.ts';
import { packageVersion } from '../package-file.ts';
import { printable, printableJson } from '../printable.ts';
import { paint } from './cells.ts';
import { addCompletionCommands, COMPLETE } from './completion.ts';
import { EXIT, exitCodeOf } from './exit.ts';

const NOUNS: Record<string, string> = {
  workflow: 'Submit workflows and follow them',
  task: 'Submit single tasks, look at them, answer them',
  queue: 'Look at the queue, pause and resume it',
  worker: 'Pools of slots that run tasks',
  peer: 'The peers of the mesh',
  bootstrap: 'Join the mesh again',
  node: 'Start a peer on this machine, look at it, drain it',
  mesh: 'A mesh of several machines: found it, invite, revoke, look after it',
  audit: 'Who called what at a peer: check its audit trail, show it',
  key: 'Keys of callers: make, list, revoke them',
};

const EXAMPLES = `
Examples:
  flowmesh node start --bootstrap                      start a peer; the same again in another terminal joins it
  flowmesh peer list                                   the other peers, with measured latency
  flowmesh workflow submit examples/word-count.yaml --watch
  flowmesh task submit echo --payload '{"hello":"mesh"}'
  flowmesh mesh init                                   found a mesh of several machines; then: flowmesh mesh invite

Commands talk to the first peer that runs on this machine; --url, --data-dir or --mesh name another one, and so do
FLOWMESH_URL, FLOWMESH_DATA_DIR and FLOWMESH_MESH. All settings of a peer: docs/configuration.md.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no peer could be reached.`;

/** @returns the exit code */
async function main(args: string[]): Promise<number> {
  let code: number = EXIT.done;
  const finish = (next: number) => {
    code = next;
  };
  try {
    const program = await createProgram(args, finish);
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    return error instanceof CommanderError ? usageCode(error) : await showError(error, args.includes('--json'));
  }
  return code;
}

async function createProgram(args: string[], finish: (code: number) => void): Promise<Command> {
  const program = new Command('flowmesh')
    .description('A peer-to-peer workflow mesh, spoken to over MCP.')
    .version(packageVersion(), '-V, --version', 'Print the version')
    .helpOption('-h, --help', 'Show help')
    .helpCommand('help [command]', 'Show help for a command')
    .addHelpText('after', EXAMPLES)
    .configureHelp({ showGlobalOptions: false })
    .exitOverride();
  const groups = new Map<string, Command>();
  for (const [noun, description] of Object.entries(NOUNS)) {
    groups.set(
      noun,
      program.command(noun).description(description).showHelpAfterError('(add --help to see what there is)'),
    );
  }
  // `flowmesh help task list` is about the same command as `flowmesh task list --help`.
  const words = args.filter((arg) => !arg.startsWith('-'));
  const noun = words[0] === 'help' || words[0] === COMPLETE ? words[1] : words[0];
  if (noun === 'node') await addNodeCommands(groups.get('node')!, finish);
  else if (noun === 'mesh') await addMeshGroup(groups.get('mesh')!, finish);
  else if (noun === 'audit') (await import('./audit.ts')).addAuditCommands(groups.get('audit')!, finish);
  else if (noun === 'key') await addKeyGroup(groups.get('key')!, finish);
  else if (noun !== undefined && groups.has(noun)) await addToolCommands(groups, noun, words, finish);
  await addJoin(program, noun === 'join', finish);
  addCompletionCommands(program);
  return program;
}

async function addNodeCommands(group: Command, finish: (code: number) => void): Promise<void> {
  const [{ addStartCommand, startNode }, { addStatusCommand, showStatus }, { addDrainCommand, drainPeer }] =
    await Promise.all([import('./start.ts'), import('./node-status.ts'), import('./node-drain.ts')]);
  addStartCommand(group, async (sources) => {
    // libp2p lets go of its sockets slowly; nothing is left to be done for it.
    process.exit(await startNode(sources));
  });
  addStatusCommand(group, async (choice, json) => finish(await showStatus(choice, json)));
  addDrainCommand(group, async (choice, options) => finish(await drainPeer(choice, options)));
}

async function addMeshGroup(group: Command, finish: (code: number) => void): Promise<void> {
  const [{ addInitCommand, initMesh }, { addMeshCommands, askMesh }] = await Promise.all([
    import('./mesh-init.ts'),
    import('./mesh-admin.ts'),
  ]);
  addInitCommand(group, async (founding) => finish(await initMesh(founding)));
  addMeshCommands(group, async (call) => finish(await askMesh(call)));
}

async function addKeyGroup(group: Command, finish: (code: number) => void): Promise<void> {
  const { addKeyCommands, askKeys } = await import('./key-admin.ts');
  addKeyCommands(group, async (call) => finish(await askKeys(call)));
}

/** @param wanted whether it is the command that was typed; else its line in the help is enough */
async function addJoin(program: Command, wanted: boolean, finish: (code: number) => void): Promise<void> {
  if (!wanted) {
    program.command('join').summary('Join a mesh that this machine was invited to, and start a peer');
    return;
  }
  const [{ addJoinCommand, join }, { startNode }] = await Promise.all([import('./join.ts'), import('./start.ts')]);
  addJoinCommand(program, async (joining) => {
    finish(
      await join(joining, async (sources) => {
        // libp2p lets go of its sockets slowly; nothing is left to be done for it.
        process.exit(await startNode(sources));
      }),
    );
  });
}

async function addToolCommands(
  groups: Map<string, Command>,
  noun: string,
  words: string[],
  finish: (code: number) => void,
): Promise<void> {
  const [{ tools }, { addToolCommand, runTool }, { wordsOf }] = await Promise.all([
    import('../../tools/registry.ts'),
    import('./tool-command.ts'),
    import('./wording.ts'),
  ]);
  const group = groups.get(noun)!;
  for (const tool of tools.values()) {
    const own = wordsOf(tool);
    if (own.noun !== noun) continue;
    addToolCommand(group, tool, words.includes(own.verb), async (invocation) => {
      asked = tool;
      finish(await runTool(invocation));
    });
  }
  if (noun === 'worker') {
    const { addWorkerListCommand, listWorkers } = await import('./worker-list.ts');
    addWorkerListCommand(group, async (listing) => finish(await listWorkers(listing)));
  }
  if (noun === 'task') {
    const { addAnswerCommand, answerTask } = await import('./task-answer.ts');
    addAnswerCommand(group, async (answer) => finish(await answerTask(answer)));
  }
}

/** Commander has said what is wrong; a group without a verb has shown its help. */
function usageCode(error: CommanderError): number {
  return error.exitCode === 0 ? EXIT.done : EXIT.usage;
}

/** The tool that was called, whose fields an error may name. */
let asked: Tool | undefined;

/** What a tool says for programs, as people type it. */
async function forPeople(message: string): Promise<string> {
  if (!message.includes('_')) return message;
  const [{ tools }, { inCommands }] = await Promise.all([import('../../tools/registry.ts'), import('./wording.ts')]);
  // The fields of a workflow file are the file's.
  return inCommands(message, tools, asked?.name === 'workflow_submit' ? undefined : asked);
}

async function showError(error: unknown, json: boolean): Promise<number> {
  const shape = errorShape(error);
  if (json) process.stdout.write(`${printableJson({ success: false, error: shape }, 2)}\n`);
  const lines = [
    `${paint('red', `error ${printable(shape.code)}`, process.stderr)}  ${printable(await forPeople(shape.message), '\n\t')}`,
  ];
  if (error instanceof RemoteError && shape.retryable)
    lines.push(paint('dim', 'It may work when tried again.', process.stderr));
  // A fault of ours: the place in the source is what a report needs.
  if (!(error instanceof FlowmeshError) && error instanceof Error)
    lines.push(paint('dim', error.stack ?? '', process.stderr));
  process.stderr.write(`${lines.join('\n')}\n`);
  return exitCodeOf(error);
}

// `flowmesh … | head` closes the pipe when it has enough: that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.done);
  throw error;
});

process.exitCode = await main(process.argv.slice(2));
