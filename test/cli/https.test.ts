/** Commands and a peer that serves HTTPS with a certificate that this machine does not trust. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeCertificate, NO_OPENSSL } from '../harness/certificates.ts';
import { eventually } from '../harness/eventually.ts';
import { skipNote } from '../harness/namespaces.ts';
import { runCli, startCli } from './run-cli.ts';

describe.skipIf(NO_OPENSSL !== null)(`the command line over HTTPS${skipNote(NO_OPENSSL)}`, () => {
  let home: string;
  let peer: ReturnType<typeof startCli>;
  let url: string;
  let files: { cert: string; key: string };

  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'flowmesh-https-'));
    // It names neither the address nor anybody that this machine trusts.
    files = await makeCertificate(home, 'peer', ['DNS:peer.example']);
    const tls = ['--tls-cert', 'peer-cert.pem', '--tls-key', 'peer-key.pem'];
    peer = startCli(['node', 'start', '--http-port', '0', ...tls], { FLOWMESH_HOME: home }, { cwd: home });
    for await (const line of createInterface({ input: peer.stderr! })) {
      const facts = JSON.parse(line) as { msg: string; mcp_url: string };
      if (facts.msg !== 'ready') continue;
      url = facts.mcp_url.replace('/mcp', '');
      peer.stderr!.resume();
      return;
    }
    throw new Error('the peer ended before it was ready');
  });
  afterEach(async () => {
    peer.kill('SIGKILL');
    await peer;
    await rm(home, { recursive: true });
  });

  const run = (args: string[], env: Record<string, string> = {}) => runCli(args, { FLOWMESH_HOME: home, ...env });

  it('talks to a peer of this machine, found by its folder or by its URL, by the certificate of its own folder', async () => {
    expect(url).toMatch(/^https:/);
    const found = await run(['node', 'status', '--json']);
    expect([found.exitCode, JSON.parse(found.stdout)]).toMatchObject([0, { ready: true, url }]);
    const submitted = await run(['task', 'submit', 'echo', '--payload', '{"over":"https"}', '--json']);
    expect(submitted.exitCode).toBe(0);
    const { task_id } = JSON.parse(submitted.stdout);
    await eventually('it is done', async () => {
      const status = await run(['task', 'status', task_id, '--json', '--url', url]);
      return JSON.parse(status.stdout).status === 'completed';
    });
    const watched = join(home, 'workflow.json');
    await writeFile(
      watched,
      JSON.stringify({ name: 'w', steps: [{ step_id: 'a', action: 'echo', inputs: { a: 1 } }] }),
    );
    const ran = await run(['workflow', 'submit', watched, '--watch']);
    expect([ran.exitCode, ran.stdout]).toEqual([0, expect.stringContaining('"a": 1')]);
  });

  it('without that folder the certificate has to be a trusted one that names the host', async () => {
    const elsewhere = { FLOWMESH_HOME: join(home, 'elsewhere') };
    const untrusted = await run(['node', 'status', '--url', url], elsewhere);
    expect([untrusted.exitCode, untrusted.stderr]).toEqual([3, expect.stringContaining('NODE_EXTRA_CA_CERTS')]);
    const trusted = { ...elsewhere, NODE_EXTRA_CA_CERTS: files.cert };
    const misnamed = await run(['node', 'status', '--url', url], trusted);
    expect([misnamed.exitCode, misnamed.stderr]).toEqual([3, expect.stringContaining('altnames')]);
  });

  it('another certificate than that of the folder is refused, whoever signed it; a renewed one is taken', async () => {
    const own = await readFile(files.cert);
    const other = await makeCertificate(home, 'other');
    const next = await makeCertificate(home, 'next');
    // What its folder names is no longer what it serves: as if another program listened there.
    await copyFile(other.cert, files.cert);
    const refused = await run(['node', 'status', '--json']);
    expect([refused.exitCode, JSON.parse(refused.stdout)]).toMatchObject([3, { error: { code: 'NO_PEER' } }]);
    await writeFile(files.cert, own);
    expect((await run(['node', 'status'])).exitCode).toBe(0);
    await copyFile(next.key, files.key);
    await copyFile(next.cert, files.cert);
    await eventually('the new certificate is known', async () => (await run(['node', 'status'])).exitCode === 0);
    expect((await run(['node', 'drain'])).exitCode).toBe(0);
    expect((await peer).exitCode).toBe(0);
  });
});

it('a certificate without its key is refused, and so is a file that is none', async () => {
  const half = await runCli(['node', 'start', '--tls-cert', 'cert.pem'], { FLOWMESH_HOME: tmpdir() });
  expect([half.exitCode, half.stderr]).toEqual([2, expect.stringMatching(/http\.tls\.cert: .*--tls-key/)]);
});
