/** `flowmesh join fmj1_…`: makes this machine a member of a mesh, and starts its peer. */
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { text as textOf } from 'node:stream/consumers';
import type { Command } from 'commander';
import { resolveSettings, type Sources } from '../config/sources.ts';
import { claimDataFolder, defaultPeerName, flowmeshHome } from '../data-folder.ts';
import { createLog } from '../log.ts';
import { readToken, type Token } from '../membership/token.ts';
import { loadIdentity } from '../p2p/identity.ts';
import { printable } from '../printable.ts';
import { EXIT, UsageError } from './exit.ts';
import { startArguments } from './mesh-init.ts';
import { addStartOptions, sourcesOf } from './start.ts';

const TOKEN_VARIABLE = 'FLOWMESH_TOKEN';
const TOKEN_BYTES_MAX = 64 * 1_024;

export interface Joining {
  token: Token;
  sources: Sources;
  service: boolean;
  start: boolean;
}

export function addJoinCommand(program: Command, run: (joining: Joining) => Promise<void>): void {
  const command = program
    .command('join')
    .argument('[token]', `What "flowmesh mesh invite" printed; - reads it from stdin [${TOKEN_VARIABLE}]`)
    .summary('Join a mesh that this machine was invited to, and start a peer')
    .description(
      'Makes this machine a member of the mesh that the token names, and starts its peer. It stays a member: later `flowmesh node start --mesh <name>` is enough.',
    )
    .option('--token-file <file>', 'Read the token from a file')
    .option('--service', 'Start the peer with this machine, as a systemd service of this user')
    .option('--no-start', 'Join, and start nothing');
  addStartOptions(command, ['mesh']);
  command.action(async (typed: string | undefined) => {
    const {
      tokenFile,
      service = false,
      start,
    } = command.opts<{ tokenFile?: string; service?: boolean; start: boolean }>();
    const token = readToken(await tokenText(typed, tokenFile));
    // The peer runs on: nobody is to find the token in the list of processes for as long as it can be used.
    if (typed !== undefined) process.title = 'flowmesh join';
    await run({ token, sources: await sourcesOf(command), service, start });
  });
}

async function tokenText(typed: string | undefined, file: string | undefined): Promise<string> {
  if (typed !== undefined && file !== undefined) throw new UsageError('give the token or --token-file, not both');
  if (file !== undefined) return await readTokenFile(file);
  if (typed === '-') return await textOf(process.stdin);
  const found = typed ?? process.env[TOKEN_VARIABLE];
  if (found !== undefined && found !== '') return found;
  throw new UsageError(
    `which mesh? Give the token that "flowmesh mesh invite" printed, --token-file, or ${TOKEN_VARIABLE}`,
  );
}

async function readTokenFile(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).slice(0, TOKEN_BYTES_MAX);
  } catch (cause) {
    throw new UsageError(`--token-file: ${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

/**
 * @param startPeer runs the peer until it ends
 * @returns the exit code
 */
export async function join(
  { token, sources, service, start }: Joining,
  startPeer: (sources: Sources) => Promise<number>,
): Promise<number> {
  const mesh = token.invite.said.mesh_name;
  const flags = { ...sources.flags, mesh };
  const settings = resolveSettings({ ...sources, flags });
  const folder = await claimDataFolder({ home: flowmeshHome(sources.env), mesh, explicit: settings.data_dir });
  const data_dir = folder.path;
  try {
    const log = createLog({ level: settings.log_level });
    const { joinMesh } = await import('../p2p/join.ts');
    const identity = await loadIdentity(data_dir, log);
    const name = settings.name ?? defaultPeerName(hostname(), data_dir);
    const joined = await joinMesh({ dataDir: data_dir, identity, token, name, now: Date.now, log });
    joined.close();
  } finally {
    await folder.release();
  }
  const again = `flowmesh node start ${startArguments(mesh, settings.data_dir)}`;
  process.stderr.write(
    printable(`This machine is a member of mesh "${mesh}" now. Its peer is started with: ${again}\n`, '\n'),
  );
  if (service) {
    const { installService } = await import('./service.ts');
    return await installService({ mesh, dataDir: data_dir, flags: sources.flags });
  }
  return start ? await startPeer({ ...sources, flags: { ...flags, data_dir } }) : EXIT.done;
}
