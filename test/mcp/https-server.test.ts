/** HTTPS at a listener: which certificate is served, and what becomes of one that changes. */
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { type AddressInfo, connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../node/log.ts';
import { createHttpsServer, type TlsFiles } from '../../node/mcp/https-server.ts';
import { type Listener, startListener } from '../../node/mcp/listener.ts';
import type { Log } from '../../scheduler/ports.ts';
import { makeCertificate, NO_OPENSSL } from '../harness/certificates.ts';
import { eventually } from '../harness/eventually.ts';
import { skipNote } from '../harness/namespaces.ts';
import { EchoRouter, INFO } from './echo-router.ts';

describe.skipIf(NO_OPENSSL !== null)(`HTTPS${skipNote(NO_OPENSSL)}`, () => {
  let folder: string;
  /** What is served: copies of the pairs below, in a folder of their own. */
  let served: TlsFiles;
  let first: TlsFiles;
  let second: TlsFiles;
  let listener: Listener | undefined;
  const lines: { level: string; message: string; err?: Error }[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'flowmesh-tls-'));
    first = await makeCertificate(folder, 'first');
    second = await makeCertificate(folder, 'second');
    await mkdir(join(folder, 'served'));
    served = { cert: join(folder, 'served/cert.pem'), key: join(folder, 'served/key.pem') };
    await copyFile(first.cert, served.cert);
    await copyFile(first.key, served.key);
    lines.length = 0;
  });
  afterEach(async () => {
    await listener?.close();
    listener = undefined;
    await rm(folder, { recursive: true });
  });

  const log: Log = {
    ...silentLog,
    info: (_, message) => lines.push({ level: 'info', message }),
    warn: (fields, message) => lines.push({ level: 'warn', message, ...fields }),
  };
  const start = async (tls = served) => {
    listener = await startListener({ router: new EchoRouter(), host: '127.0.0.1', port: 0, info: INFO, log, tls });
    return listener;
  };
  const told = (message: string) => lines.filter((line) => line.message.includes(message));
  const greeted = async (options: ConnectionOptions = {}): Promise<TLSSocket> => {
    const socket = connect({ host: '127.0.0.1', port: listener!.port, rejectUnauthorized: false, ...options });
    await once(socket, 'secureConnect');
    return socket;
  };
  /** The common name of what is served to a new connection. */
  const shown = async (): Promise<string> => {
    const socket = await greeted();
    const { subject } = socket.getPeerCertificate();
    socket.destroy();
    return String(subject.CN);
  };
  const health = async (ca: string) => {
    const sent = request(`${listener!.url}/health`, { ca: await readFile(ca), agent: false }).end();
    const [response] = await once(sent, 'response');
    return JSON.parse(await text(response));
  };

  it('is served to who trusts the certificate, and not over HTTP', async () => {
    const { url, port } = await start();
    expect(url).toBe(`https://127.0.0.1:${port}`);
    expect(await health(first.cert)).toMatchObject({ status: 'ok' });
    await expect(health(second.cert)).rejects.toThrow(/self-signed/);
    await expect(fetch(url.replace('https', 'http'))).rejects.toThrow();
  });

  it('is TLS 1.2 or later', async () => {
    await start();
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const socket = await greeted({ minVersion: version, maxVersion: version });
      expect(socket.getProtocol()).toBe(version);
      socket.destroy();
    }
    // At this level OpenSSL would offer the old one, so that it is the server that refuses it.
    const old = greeted({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' });
    await expect(old).rejects.toMatchObject({ code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION' });
  });

  it('a new pair is served to new connections, and those that are open go on', async () => {
    await start();
    const open = await greeted();
    await copyFile(second.key, served.key);
    await copyFile(second.cert, served.cert);
    await eventually('the new one is served', async () => (await shown()) === 'second');
    open.write('GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n');
    expect(await text(open)).toMatch(/^HTTP\/1\.1 200 /);
    expect(told('new certificate is served')).toHaveLength(1);
  });

  it('half of a new pair changes nothing and is told once, with why; its other half completes it', async () => {
    await start();
    await copyFile(second.cert, served.cert);
    const [line] = await eventually('it is told', () => {
      const found = told('the certificate before is served on');
      return found.length > 0 && found;
    });
    expect(line!.err).toMatchObject({ code: 'TLS_UNUSABLE', message: expect.stringContaining('key values mismatch') });
    expect(await shown()).toBe('first');
    await copyFile(second.key, served.key);
    await eventually('the new one is served', async () => (await shown()) === 'second');
    expect(told('served on')).toHaveLength(1);
  });

  it('a file that is gone, or cut off, changes nothing', async () => {
    await start();
    await rm(served.key);
    await eventually('the missing one is told', () => told('served on').length === 1);
    expect(lines.at(-1)!.err!.message).toContain('no such file');
    expect(await shown()).toBe('first');
    await writeFile(served.key, (await readFile(second.key)).subarray(0, 60));
    await eventually('the cut one is told', () => told('served on').length === 2);
    expect(await shown()).toBe('first');
  });

  it('files that are links into a folder that is exchanged, as in a mounted secret', async () => {
    for (const [name, files] of Object.entries({ old: first, new: second })) {
      await mkdir(join(folder, name));
      await copyFile(files.cert, join(folder, name, 'cert.pem'));
      await copyFile(files.key, join(folder, name, 'key.pem'));
    }
    const [link, next] = [join(folder, 'current'), join(folder, 'next')];
    await symlink('old', link);
    await rm(join(folder, 'served'), { recursive: true });
    await mkdir(join(folder, 'served'));
    // The folder of the files is where the link is exchanged.
    await symlink(join(link, 'cert.pem'), join(folder, 'cert.pem'));
    await symlink(join(link, 'key.pem'), join(folder, 'key.pem'));
    await start({ cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') });
    expect(await shown()).toBe('first');
    await symlink('new', next);
    await rename(next, link);
    await eventually('the new one is served', async () => (await shown()) === 'second');
  });

  it.each([
    ['a missing file', () => ({ ...served, cert: '/nowhere/cert.pem' }), /cert\.pem.*no such file.*--tls-cert/],
    ['a key of another certificate', () => ({ ...served, key: second.key }), /key values mismatch/],
    ['a certificate in place of the key', () => ({ ...served, key: served.cert }), /--tls-key/],
  ])('%s is refused at the start', async (_, files, why) => {
    await expect(start(files())).rejects.toMatchObject({ code: 'TLS_UNUSABLE', message: expect.stringMatching(why) });
  });

  it('a client that never greets is cut off', async () => {
    const server = await createHttpsServer(served, { handshakeTimeout: 50 }, () => {}, log);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const failed = once(server, 'tlsClientError');
    const silent = connectTcp((server.address() as AddressInfo).port, '127.0.0.1');
    const [error] = await failed;
    expect(error).toMatchObject({ code: 'ERR_TLS_HANDSHAKE_TIMEOUT' });
    silent.destroy();
    server.close();
  });
});
