/** `flowmesh join … --service`: the peer as a systemd service of this user. */
import { mkdir, writeFile } from 'node:fs/promises';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { FlowmeshError } from '../../dag/errors.ts';
import { flagName, OPTIONS } from '../config/options.ts';
import type { Sources } from '../config/sources.ts';
import { EXIT } from './exit.ts';

const SYSTEMCTL_TIMEOUT_MS = 30_000;

export interface Service {
  mesh: string;
  dataDir: string;
  /** What else `node start` is given. */
  flags: Sources['flags'];
}

/** The unit file: the peer is started after the network, and again when it ends unasked. */
export function unitOf({ mesh, dataDir, flags }: Service, program: readonly string[]): string {
  const words = [...program, 'node', 'start', '--mesh', mesh, '--data-dir', dataDir, ...flagWords(flags)];
  return `[Unit]
Description=flowmesh peer of mesh ${mesh}
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=${words.map(quoted).join(' ')}
Restart=on-failure
RestartSec=2
# Steps get this long to end before the rest is handed to other peers.
TimeoutStopSec=60
Delegate=yes

[Install]
WantedBy=default.target
`;
}

function flagWords(flags: Sources['flags']): string[] {
  return OPTIONS.flatMap((option) => {
    const value = flags[option.path];
    if (value === undefined || option.path === 'mesh' || option.path === 'data_dir') return [];
    if (typeof value === 'boolean') return [flagName(option)];
    return [flagName(option), ...[value].flat()];
  });
}

/** As systemd reads a word: % and $ are its own. */
function quoted(word: string): string {
  const escaped = word.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%').replaceAll('$', '$$$$');
  return /^[\w@%+=:,./-]+$/.test(word) ? escaped : `"${escaped}"`;
}

/** Writes the unit and starts it. @returns the exit code @throws FlowmeshError SERVICE_NOT_STARTED, with what to do */
export async function installService(service: Service): Promise<number> {
  const name = `flowmesh-${service.mesh}.service`;
  const folder = join(process.env['XDG_CONFIG_HOME'] || join(homedir(), '.config'), 'systemd', 'user');
  const file = join(folder, name);
  await mkdir(folder, { recursive: true });
  await writeFile(file, unitOf(service, [process.execPath, process.argv[1]!]));
  for (const words of [['daemon-reload'], ['enable', '--now', name]]) {
    const { failed, stderr, shortMessage } = await execa('systemctl', ['--user', ...words], {
      reject: false,
      timeout: SYSTEMCTL_TIMEOUT_MS,
    });
    if (!failed) continue;
    throw new FlowmeshError(
      'SERVICE_NOT_STARTED',
      `The machine has joined, and ${file} is written, but "systemctl --user ${words.join(' ')}" failed: ${stderr || shortMessage}. Start it where systemd runs for this user, or start the peer with: flowmesh node start --mesh ${service.mesh}`,
    );
  }
  process.stderr.write(
    `The peer runs as ${name} now: systemctl --user status ${name}\nTo have it run while nobody is logged in: sudo loginctl enable-linger ${userInfo().username}\n`,
  );
  return EXIT.done;
}
