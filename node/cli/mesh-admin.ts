/** `flowmesh mesh invite | members | invites | revoke | rotate | doctor`: asked of the peer that runs on this machine. */
import type { Command } from 'commander';
import type { JsonObject } from '../../dag/errors.ts';
import { ROLES } from '../../scheduler/roles.ts';
import { printable, printableJson } from '../printable.ts';
import { paint } from './cells.ts';
import { PeerClient } from './client.ts';
import { durationOf } from './durations.ts';
import { EXIT, UsageError } from './exit.ts';
import { findPeer, type PeerChoice } from './find-peer.ts';
import { addPeerOptions, peerChoiceOf, terminalWidth } from './tool-command.ts';

/** What `--role` takes besides roles. */
const PRESETS: Record<string, string[]> = {
  member: ['submit', 'work', 'replicate'],
  worker: ['work'],
  client: ['submit'],
  admin: [...ROLES],
};

export interface MeshCall {
  request: string;
  input: JsonObject;
  json: boolean;
  peer: PeerChoice;
}

type Run = (call: MeshCall) => Promise<void>;

export function addMeshCommands(group: Command, run: Run): void {
  addInvite(group, run);
  addPlain(
    group,
    run,
    'members',
    'List the members of the mesh',
    'Lists the members of the mesh: what each may do, until when, and whether it is connected.',
  );
  addPlain(
    group,
    run,
    'invites',
    'List the invites of the mesh',
    'Lists the invites that were made: for what, until when, and who came by them.',
  );
  addRevoke(group, run);
  addRotate(group, run);
  addPlain(
    group,
    run,
    'doctor',
    'Say what is wrong with the place of this peer in its mesh',
    'Says what this peer listens on and announces, how it reaches the others, and what is wrong or will be.',
  );
}

function addPlain(group: Command, run: Run, request: string, summary: string, description: string): void {
  const command = group.command(request).summary(summary).description(description);
  finish(command, run, request, () => ({}));
}

/** The options that all have, and what is done. */
export function finish(command: Command, run: Run, request: string, inputOf: () => JsonObject): void {
  addPeerOptions(command);
  command.option('--json', 'Print it as JSON').action(() => {
    const { json = false } = command.opts<{ json?: boolean }>();
    return run({ request, input: inputOf(), json, peer: peerChoiceOf(command) });
  });
}

function addInvite(group: Command, run: Run): void {
  const command = group
    .command('invite')
    .summary('Invite a machine into the mesh')
    .description(
      'Prints one line, to be run on another machine: it makes that machine a member of this mesh. The line is a secret until it is used or expires.',
    )
    .option(
      '--role <role...>',
      `member (${PRESETS['member']!.join(', ')}), worker, client, admin, or roles: ${ROLES.join(', ')}`,
      ['member'],
    )
    .option('--issuer', 'It may take others in too, and renew certificates (needs the root key)')
    .option('--offer <name...>', 'The only actions and labels that it may offer, e.g. shell gpu region=*')
    .option('--no-relay', 'It does not carry connections of others')
    .option('--ttl <time>', 'How long the line can be used (default: 1h)')
    .option('--uses <count>', 'How many machines may use it (default: 1)')
    .option('--for <peer-id>', 'The only peer that may use it')
    .option('--member-ttl <time>', 'With --issuer: how long the certificates are good for that it gives (default: 30d)')
    .option('--address <multiaddr...>', 'Where members are reached, in place of what this peer announces');
  finish(command, run, 'invite', () => inviteInput(command));
}

interface InviteOptions {
  role: string[];
  issuer?: true;
  offer?: string[];
  relay: boolean;
  ttl?: string;
  uses?: string;
  for?: string;
  memberTtl?: string;
  address?: string[];
}

function inviteInput(command: Command): JsonObject {
  const { role, issuer, offer, relay, ttl, uses, for: for_peer, memberTtl, address } = command.opts<InviteOptions>();
  if (uses !== undefined && !/^\d{1,4}$/.test(uses))
    throw new UsageError(`--uses: "${uses}" is not a number of machines`);
  const unknown = role.find((each) => PRESETS[each] === undefined && !(ROLES as readonly string[]).includes(each));
  if (unknown !== undefined) {
    throw new UsageError(
      `--role: "${unknown}" is none of ${[...new Set([...Object.keys(PRESETS), ...ROLES])].join(', ')}`,
    );
  }
  return {
    roles: [...new Set(role.flatMap((each) => PRESETS[each] ?? [each]))],
    ...(issuer && { issuer }),
    ...(offer !== undefined && { offers: offer }),
    relay,
    ...(ttl !== undefined && { ttl_ms: durationOf('--ttl', ttl) }),
    ...(uses !== undefined && { uses: Number(uses) }),
    ...(for_peer !== undefined && { for_peer }),
    ...(memberTtl !== undefined && { member_ttl_ms: durationOf('--member-ttl', memberTtl) }),
    ...(address !== undefined && { addresses: address }),
  };
}

function addRevoke(group: Command, run: Run): void {
  const command = group
    .command('revoke')
    .argument('<peer-or-invite>', 'A name or peer id of `mesh members`, or an id of `mesh invites`')
    .summary('Put a peer out of the mesh, or take an invite back')
    .description(
      'Puts a peer out of the mesh for ever: its connections end and its leases are given to others. Of an invite: nobody can use it any more, and who came by it is out.',
    )
    .option('--reason <text>', 'What the others are told')
    .option('--issued', 'Undo what it signed too: whom it took in or renewed is out, whom it revoked is in again');
  finish(command, run, 'revoke', () => {
    const { reason, issued } = command.opts<{ reason?: string; issued?: true }>();
    return { target: command.args[0]!, ...(reason !== undefined && { reason }), ...(issued && { issued }) };
  });
}

function addRotate(group: Command, run: Run): void {
  const command = group
    .command('rotate')
    .summary('Have all certificates made anew')
    .description(
      'Every member that is connected renews its certificate at once, and others when they come back. With --root the mesh gets a new root key; with --drop the old one is not trusted any more: when `rotate --root` has nobody left.',
    )
    .option('--root', 'Make a new root key too (needs the one of now)')
    .option('--drop', 'End the rotation of the root: drop the old one');
  finish(command, run, 'rotate', () => {
    const { root, drop } = command.opts<{ root?: true; drop?: true }>();
    if (root && drop) throw new UsageError('give --root first, and --drop when nobody is left');
    return { ...(root && { root }), ...(drop && { drop }) };
  });
}

/** @throws UsageError for a peer of somebody else, or of another machine; and what the peer says */
export async function askAdmin({ request, input, peer }: MeshCall): Promise<JsonObject> {
  const found = await findPeer(peer, process.env, process.cwd());
  const key = found.record?.admin_key;
  if (key === undefined || key === null) {
    throw new UsageError(
      'only the user of a peer on this machine can ask this: name the peer by --mesh or --data-dir, not by its URL',
    );
  }
  return await new PeerClient(found).meshRequest(request, input, key);
}

/** @returns the exit code */
export async function askMesh(call: MeshCall): Promise<number> {
  const { request, json } = call;
  const output = await askAdmin(call);
  if (json) process.stdout.write(`${printableJson(output, 2)}\n`);
  else await show(request, output);
  return EXIT.done;
}

async function show(request: string, output: JsonObject): Promise<void> {
  const { renderTable } = await import('./render.ts');
  const print = (text: string): boolean => process.stdout.write(`${text}\n`);
  const rows = (field: string): JsonObject[] => output[field] as JsonObject[];
  const width = terminalWidth();
  if (request === 'invite') {
    // The line alone on stdout: a script can take it.
    print(`flowmesh join ${String(output['token'])}`);
    process.stderr.write(`\n${paint('dim', inviteNote(output), process.stderr)}\n`);
  } else if (request === 'members') {
    print(
      renderTable(rows('members'), ['name', 'peer_id', 'roles', 'issuer', 'state', 'connection', 'expires_at'], width),
    );
    for (const { name, why } of rows('members'))
      if (why !== null) print(`\n${printable(String(name))}: ${printable(String(why))}`);
  } else if (request === 'invites') {
    print(
      renderTable(rows('invites'), ['invite_id', 'roles', 'issuer', 'state', 'uses', 'used_by', 'expires_at'], width),
    );
  } else if (request === 'revoke') print(printable(revoked(output)));
  else if (request === 'rotate') {
    const left = rows('left');
    print(
      left.length === 0
        ? 'All members have renewed their certificates.'
        : 'These have not renewed their certificates yet:',
    );
    if (left.length > 0) print(renderTable(left, ['name', 'peer_id', 'expires_at'], width));
    if (Number(output['roots']) > 1)
      print('\nThe old root is trusted still. When nobody is left: flowmesh mesh rotate --drop');
  } else await showDoctor(output, width);
}

function inviteNote(output: JsonObject): string {
  const uses = output['uses'] === 1 ? 'once' : `${output['uses']} times`;
  const sponsors = (output['sponsors'] as string[]).map((each) => each.replace(/\/p2p\/.*$/, ''));
  return `Run this line on the other machine, ${uses}, before ${output['expires_at']}. It reaches the mesh at ${sponsors.join(', ')}.
Whoever has the line can use it. Take it back with: flowmesh mesh revoke ${output['invite_id']}`;
}

function revoked(output: JsonObject): string {
  if (output['kind'] === 'peer') {
    const keys = output['keys'] as string[];
    const ended = keys.length > 0 ? ` Keys that it made are no good any more: ${keys.join(', ')}.` : '';
    return `${output['name']} (${output['revoked']}) is out of the mesh.${ended}`;
  }
  const came = output['came_by_it'] as string[];
  return `The invite ${output['revoked']} cannot be used any more.${came.length > 0 ? ` Out of the mesh with it: ${came.join(', ')}.` : ''}`;
}

async function showDoctor(output: JsonObject, width: number | undefined): Promise<void> {
  const { renderTable } = await import('./render.ts');
  const lines = (field: string): string =>
    (output[field] as string[]).map((each) => `  ${printable(each)}`).join('\n') || '  nothing';
  const certificate = output['certificate'] as JsonObject;
  process.stdout.write(
    `${printable(
      `mesh "${output['mesh_name']}" (${output['mesh']}), member "${certificate['name']}" until ${certificate['expires_at']}, roles ${(certificate['roles'] as string[]).join(', ')}`,
    )}\n\nlistens on\n${lines('listens')}\nannounces\n${lines('announces')}\n\n`,
  );
  const peers = output['peers'] as JsonObject[];
  process.stdout.write(`${renderTable(peers, ['peer_id', 'connected', 'path'], width)}\n\n`);
  const findings = output['findings'] as { level: string; what: string }[];
  for (const { level, what } of findings) {
    const style = level === 'problem' ? 'red' : level === 'warning' ? 'yellow' : 'dim';
    process.stdout.write(`${paint(style, level)}  ${printable(what)}\n`);
  }
  if (findings.length === 0) process.stdout.write('Nothing is wrong.\n');
}
