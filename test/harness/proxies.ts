/**
 * Reverse proxies as docs/transport.md sets them up, run with its own lines; only places are others:
 *
 *   await using proxy = await startProxy(NGINX, { folder, certificate, to: 'http://127.0.0.1:7601' });
 *   proxy.port;
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually } from './eventually.ts';
import type { Host } from './namespaces.ts';
import { fixedPorts } from './ports.ts';

const PAGE = join(import.meta.dirname, '../../docs/transport.md');
/** As the page calls it. */
export const NAME = 'mesh.example.org';

export interface Proxy {
  name: string;
  /** Why there is none here, or null. */
  missing: string | null;
  /** Of its block on the page. */
  language: string;
  /** The whole file, with the block in it. */
  configuration(block: string, place: { address: string; port: number; folder: string }): string;
  args(file: string, folder: string): string[];
}

export const NGINX: Proxy = {
  name: 'nginx',
  missing: missing('nginx', '-v', 'nginx-light'),
  language: 'nginx',
  configuration: (block, { address, port, folder }) => `
    daemon off;
    master_process off;
    pid ${folder}/nginx.pid;
    events {}
    http {
      access_log off;
      ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`).join('\n')}
      ${replaced(block, 'listen 443', `listen ${address}:${port}`)}
    }`,
  args: (file, folder) => ['-c', file, '-p', folder, '-e', 'stderr'],
};

export const CADDY: Proxy = {
  name: 'Caddy',
  missing: missing('caddy', 'version', 'caddy'),
  language: 'caddyfile',
  configuration: (block, { address, port }) => `
    {
      admin off
      auto_https disable_redirects
    }
    ${replaced(block, `${NAME} {`, `https://${NAME}:${port} {\n  bind ${address}`)}`,
  args: (file) => ['run', '--adapter', 'caddyfile', '--config', file],
};

function missing(command: string, ask: string, packageName: string): string | null {
  try {
    execFileSync(command, [ask], { stdio: 'pipe' });
    return null;
  } catch {
    return `no ${command} command (package ${packageName})`;
  }
}

export interface RunningProxy extends AsyncDisposable {
  port: number;
}

export interface ProxyPlace {
  folder: string;
  certificate: { cert: string; key: string };
  /** The URL of the peer. */
  to: string;
  /** Where it runs and listens. Default: here, on loopback. */
  at?: { host: Pick<Host, 'spawn'>; address: string };
}

export async function startProxy(
  proxy: Proxy,
  { folder, certificate, to, at = { host: { spawn }, address: '127.0.0.1' } }: ProxyPlace,
): Promise<RunningProxy> {
  const [port] = await fixedPorts(1);
  const block = new RegExp(`^\`\`\`${proxy.language}\n([\\s\\S]*?)^\`\`\``, 'm').exec(
    await readFile(PAGE, 'utf8'),
  )![1]!;
  const here = replaced(
    replaced(
      replaced(block, `/etc/ssl/${NAME}/cert.pem`, certificate.cert),
      `/etc/ssl/${NAME}/key.pem`,
      certificate.key,
    ),
    '127.0.0.1:7601',
    new URL(to).host,
  );
  const file = join(folder, `${proxy.name}.conf`);
  await writeFile(file, proxy.configuration(here, { ...at, port: port!, folder }));
  const child = at.host.spawn(proxy.name.toLowerCase(), proxy.args(file, folder), {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, HOME: folder },
  });
  let said = '';
  child.stderr!.on('data', (chunk) => {
    said += chunk;
  });
  const running = { port: port!, [Symbol.asyncDispose]: () => end(child) };
  const ended = once(child, 'close').then(([code]) => {
    throw new Error(`${proxy.name} ended with ${code}: ${said}`);
  });
  ended.catch(() => {}); // Of interest only until it listens.
  await Promise.race([eventually(`${proxy.name} listens`, () => isReached(at, port!)), ended]);
  return running;
}

function replaced(text: string, what: string, by: string): string {
  if (!text.includes(what)) throw new Error(`docs/transport.md has no ${what} in this block:\n${text}`);
  return text.replaceAll(what, by);
}

/** From where it listens: another network may not be reached from here. */
async function isReached({ host, address }: NonNullable<ProxyPlace['at']>, port: number): Promise<boolean> {
  const script = `require('node:net').connect(${port}, '${address}', () => process.exit())`;
  const [code] = await once(host.spawn(process.execPath, ['--eval', script], { stdio: 'ignore' }), 'exit');
  return code === 0;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}
