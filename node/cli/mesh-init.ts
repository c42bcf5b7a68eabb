/** `flowmesh mesh init`: this machine founds a mesh that others enter by invitation alone. */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { resolveSettings } from '../config/sources.ts';
import { claimDataFolder, defaultPeerName, flowmeshHome } from '../data-folder.ts';
import { createLog } from '../log.ts';
import { foundMesh } from '../membership/authority.ts';
import { MEMBER_TTL_MAX_MS, MEMBER_TTL_MIN_MS } from '../membership/limits.ts';
import { Membership } from '../membership/membership.ts';
import { rootKeyFile } from '../membership/root-key.ts';
import { loadIdentity } from '../p2p/identity.ts';
import { printable, printableJson } from '../printable.ts';
import { durationOf } from './durations.ts';
import { EXIT, UsageError } from './exit.ts';

export interface Founding {
  mesh: string | undefined;
  name: string | undefined;
  dataDir: string | undefined;
  memberTtl: string | undefined;
  json: boolean;
}

export function addInitCommand(group: Command, run: (founding: Founding) => Promise<void>): void {
  const command = group
    .command('init')
    .argument('[name]', 'Name of the mesh (default: default)')
    .summary('Found a mesh of several machines')
    .description(
      'Makes this machine the first of a mesh that others enter by invitation alone: makes the key of its root, and a certificate for the peer here. Start that peer then, and invite the other machines.',
    )
    .option('--name <name>', 'What people call this machine (default: host name and data folder)')
    .option('--data-dir <folder>', 'The peer that founds it (default: the first of the mesh on this machine)')
    .option(
      '--member-ttl <time>',
      'How long certificates of members are good for; renewed at two thirds (default: 30d)',
    )
    .option('--json', 'Print it as JSON');
  command.action((mesh: string | undefined) => {
    const { name, dataDir, memberTtl, json } = command.opts<Partial<Omit<Founding, 'mesh'>>>();
    return run({ mesh, name, dataDir, memberTtl, json: json ?? false });
  });
}

/** @returns the exit code */
export async function initMesh({ mesh, name, dataDir, memberTtl, json }: Founding): Promise<number> {
  const settings = resolveSettings({ flags: { mesh, data_dir: dataDir, name }, env: process.env, file: undefined });
  const ttlMs = memberTtl === undefined ? undefined : durationOf('--member-ttl', memberTtl);
  if (ttlMs !== undefined && (ttlMs < MEMBER_TTL_MIN_MS || ttlMs > MEMBER_TTL_MAX_MS)) {
    throw new UsageError('--member-ttl: must be from 10s to 365d');
  }
  const home = flowmeshHome(process.env);
  const folder = await claimDataFolder({ home, mesh: settings.mesh, explicit: settings.data_dir });
  try {
    Membership.mustBeFree(folder.path, null);
    const log = createLog({ level: settings.log_level });
    const founded = foundMesh({
      ...{ dataDir: folder.path, identity: await loadIdentity(folder.path, log), log, now: Date.now },
      ...{ mesh_name: settings.mesh, name: settings.name ?? defaultPeerName(hostname(), folder.path) },
      member_ttl_ms: ttlMs,
    });
    const { mesh: id } = founded.facts;
    founded.close();
    const start = `flowmesh node start ${startArguments(settings.mesh, dataDir)}`.trim();
    const root_key = rootKeyFile(folder.path);
    const output = { mesh: settings.mesh, mesh_id: id, peer_id: founded.self, data_dir: folder.path, root_key, start };
    process.stdout.write(json ? `${printableJson(output, 2)}\n` : said(output));
    return EXIT.done;
  } finally {
    await folder.release();
  }
}

/** What makes `node start` find the peer again. */
export function startArguments(mesh: string, dataDir: string | undefined): string {
  const named = mesh === 'default' ? [] : [`--mesh ${mesh}`];
  return [...named, ...(dataDir === undefined ? [] : [`--data-dir ${dataDir}`])].join(' ');
}

function said({ mesh, mesh_id, root_key, start }: Record<'mesh' | 'mesh_id' | 'root_key' | 'start', string>): string {
  return printable(
    `Mesh "${mesh}" (${mesh_id}) is founded, and this machine is its first member.

  1. Start its peer:            ${start}
  2. Invite another machine:    flowmesh mesh invite
     and run the line that it prints there.

The root key is ${root_key}. Who has it can do everything to this mesh. It is needed to make
admins and issuers and to rotate it, and may be kept elsewhere between.
`,
    '\n',
  );
}
