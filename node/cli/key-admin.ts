/** `flowmesh key create | list | revoke`: keys of callers, asked of the peer that runs on this machine. */
import type { Command } from 'commander';
import type { JsonObject } from '../../dag/errors.ts';
import { printable, printableJson } from '../printable.ts';
import { paint } from './cells.ts';
import { durationOf } from './durations.ts';
import { EXIT } from './exit.ts';
import { askAdmin, finish, type MeshCall } from './mesh-admin.ts';
import { terminalWidth } from './tool-command.ts';

type Run = (call: MeshCall) => Promise<void>;

const ROLE_DEFAULT = 'user';

export function addKeyCommands(group: Command, run: Run): void {
  const create = group
    .command('create')
    .argument('<name>', 'What the caller is called: records belong to key:<name>')
    .summary('Make a key for a caller')
    .description(
      'Prints a key, once: with it somebody may call every peer of the mesh that asks who calls (--auth). Only what is needed to recognize it is kept.',
    )
    .option(
      '--role <role>',
      `What it may do: admin, user, readonly, or a role of the settings (default: ${ROLE_DEFAULT}, without --permit)`,
    )
    .option('--permit <permission...>', "What it may do besides, or without a role alone, e.g. 'workflow:*' task:read")
    .option('--expires <time>', 'How long it is good for, at most two years (default: 90d)');
  finish(create, run, 'key_create', () => createInput(create));
  const list = group
    .command('list')
    .summary('List the keys of callers')
    .description('Lists the keys of the mesh: what each may do, until when, and when it was last used at this peer.');
  finish(list, run, 'keys', () => ({}));
  const revoke = group
    .command('revoke')
    .argument('<name>', 'The key, as `key list` shows it')
    .summary('End a key')
    .description('Ends a key for ever: at once at every peer that is connected, and at others when they come back.')
    .option('--reason <text>', 'What the other members are told');
  finish(revoke, run, 'key_revoke', () => {
    const { reason } = revoke.opts<{ reason?: string }>();
    return { name: revoke.args[0]!, ...(reason !== undefined && { reason }) };
  });
}

function createInput(command: Command): JsonObject {
  const { role, permit = [], expires } = command.opts<{ role?: string; permit?: string[]; expires?: string }>();
  return {
    name: command.args[0]!,
    role: role ?? (permit.length > 0 ? null : ROLE_DEFAULT),
    permits: permit,
    ...(expires !== undefined && { ttl_ms: durationOf('--expires', expires) }),
  };
}

/** @returns the exit code */
export async function askKeys(call: MeshCall): Promise<number> {
  const output = await askAdmin(call);
  if (call.json) process.stdout.write(`${printableJson(output, 2)}\n`);
  else await show(call.request, output);
  return EXIT.done;
}

async function show(request: string, output: JsonObject): Promise<void> {
  if (request === 'key_create') {
    // The key alone on stdout: a script can take it.
    process.stdout.write(`${String(output['key'])}\n`);
    const note = `\nThis is shown once. It is key:${output['name']}, and good until ${output['expires_at']}. Callers send it as
"Authorization: Bearer …" or "x-api-key"; commands take it from FLOWMESH_API_KEY. End it with: flowmesh key revoke ${output['name']}`;
    process.stderr.write(`${paint('dim', printable(note, '\n'), process.stderr)}\n`);
  } else if (request === 'keys') {
    const { renderTable } = await import('./render.ts');
    const columns = ['name', 'role', 'permits', 'state', 'expires_at', 'last_used_at', 'made_by'];
    process.stdout.write(`${renderTable(output['keys'] as JsonObject[], columns, terminalWidth())}\n`);
  } else process.stdout.write(`${printable(`The key "${output['revoked']}" is no good any more.`)}\n`);
}
