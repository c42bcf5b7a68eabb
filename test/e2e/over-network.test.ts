/**
 * A peer that is used from another machine with a key, as docs/transport.md says: over HTTPS of its own, and behind a proxy.
 * Each machine is a network namespace.
 */
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { makeCertificate, NO_OPENSSL } from '../harness/certificates.ts';
import { environmentWithoutSettings } from '../harness/environment.ts';
import { eventually } from '../harness/eventually.ts';
import { HostedPeer } from '../harness/hosted-peers.ts';
import { type Host, Internet, NO_NAMESPACES, skipNote } from '../harness/namespaces.ts';
import { PROGRAM } from '../harness/program.ts';
import { NGINX, startProxy } from '../harness/proxies.ts';

const ROOT = join(import.meta.dirname, '../..');
const PAGE = join(ROOT, 'docs/transport.md');
/** What the lines of the page call; a machine without curl passes over its line. */
const SHELL_NAMES = `
flowmesh() { '${process.execPath}' '${PROGRAM}' "$@"; }
command -v curl >/dev/null || curl() { echo '"ready":true'; }`;
const why = NO_NAMESPACES ?? NO_OPENSSL;

/** What the SDK's client hears while a task runs, and gets. */
const SDK_CLIENT = `
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
const { URL_OF_MCP, KEY } = process.env;
const client = new Client({ name: 'laptop', version: '1.0.0' });
const requestInit = { headers: { 'x-api-key': KEY } };
await client.connect(new StreamableHTTPClientTransport(new URL(URL_OF_MCP), { requestInit }));
const { structuredContent } = await client.callTool({ name: 'task_list', arguments: {} });
console.log(JSON.stringify(structuredContent));
await client.close();
`;

describe.skipIf(why !== null)(`a peer used from another machine${skipNote(why)}`, () => {
  let net: Internet;
  let folder: string;
  let server: Host;
  let laptop: Host;
  let certificate: { cert: string; key: string };
  beforeEach(async () => {
    net = await Internet.make();
    folder = await mkdtemp(join(tmpdir(), 'flowmesh-network-'));
    server = await net.host('server');
    laptop = await (await net.home('home')).host('laptop');
    certificate = await makeCertificate(folder, 'server', [`IP:${server.address}`]);
    await copyFile(certificate.cert, join(folder, 'cert.pem'));
  });
  afterEach(async () => {
    await net[Symbol.asyncDispose]();
    await rm(folder, { recursive: true });
  });

  /** A peer of a mesh with keys, on the server. */
  const start = (...args: string[]) => HostedPeer.found(server, ['ours'], ['--mesh', 'ours', '--auth', ...args]);
  const fromLaptop = (env: NodeJS.ProcessEnv, ...args: string[]) => {
    const place = { FLOWMESH_HOME: folder, FLOWMESH_HANDED_OVER: '1', NODE_EXTRA_CA_CERTS: certificate.cert };
    return laptop.run(process.execPath, args, {
      cwd: ROOT,
      env: { ...environmentWithoutSettings(), ...place, ...env },
    });
  };

  /** With the command line and the SDK; a stranger and a revoked key get nothing. */
  async function isUsedWithAKey(peer: HostedPeer, url: string): Promise<void> {
    const key = (await peer.text('key', 'create', 'laptop', '--role', 'user')).trim();
    const command = async (...args: string[]): Promise<JsonObject> =>
      JSON.parse(await fromLaptop({ FLOWMESH_API_KEY: key }, PROGRAM, ...args, '--json', '--url', url)) as JsonObject;
    const { task_id } = await command('task', 'submit', 'echo', '--payload', '{"from":"the laptop"}');
    const done = await eventually('it is done', async () => {
      const task = await command('task', 'status', String(task_id));
      return task['status'] === 'completed' && task;
    });
    expect(done).toMatchObject({ submitted_by: 'key:laptop' });

    const [lines] = /^export FLOWMESH_API_KEY=[\s\S]*?(?=^```)/m.exec(await readFile(PAGE, 'utf8'))!;
    const script = `set -e; cd "$FLOWMESH_HOME"\n${SHELL_NAMES}\n${lines.replaceAll('https://192.0.2.7:7601', url)}`;
    const typed = await laptop.run('sh', ['-c', script], {
      env: { ...environmentWithoutSettings(), FLOWMESH_HOME: folder, FLOWMESH_HANDED_OVER: '1', KEY: key },
    });
    expect(typed).toMatch(/^task id +task-[\s\S]*"ready":true/);

    const listed = await fromLaptop(
      { URL_OF_MCP: `${url}/mcp`, KEY: key },
      '--input-type=module',
      '--eval',
      SDK_CLIENT,
    );
    expect(JSON.parse(listed)).toMatchObject({ success: true, total_count: 2 });

    const stranger = fromLaptop({}, PROGRAM, 'task', 'list', '--json', '--url', url);
    await expect(stranger).rejects.toMatchObject({ code: 1, stdout: expect.stringContaining('TOKEN_REQUIRED') });
    await peer.text('key', 'revoke', 'laptop');
    const revoked = { code: 1, stdout: expect.stringContaining('"success": false') };
    await expect(command('task', 'list')).rejects.toMatchObject(revoked);
  }

  it('over HTTPS of its own', async () => {
    const tls = ['--tls-cert', certificate.cert, '--tls-key', certificate.key];
    await using peer = await start('--http-host', '0.0.0.0', ...tls);
    const { hostname, port } = new URL(peer.record.http_url!);
    expect(hostname).toBe('127.0.0.1');
    await isUsedWithAKey(peer, `https://${server.address}:${port}`);
  });

  describe.skipIf(NGINX.missing !== null)(`behind a proxy${skipNote(NGINX.missing)}`, () => {
    it('on loopback', async () => {
      await using peer = await start('--allowed-host', server.address, '--trusted-proxy', '127.0.0.1');
      const at = { host: server, address: server.address };
      await using proxy = await startProxy(NGINX, { folder, certificate, to: peer.record.http_url!, at });
      await isUsedWithAKey(peer, `https://${server.address}:${proxy.port}`);
    });
  });
});
