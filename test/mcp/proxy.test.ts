/** MCP through a reverse proxy that is set up as docs/transport.md says. */
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import type { LookupFunction } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Agent, fetch as fetchThrough } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ANYONE } from '../../node/auth/principal.ts';
import { silentLog } from '../../node/log.ts';
import { clientAddressOf } from '../../node/mcp/arrival.ts';
import { MESSAGE_BYTES_MAX } from '../../node/mcp/limits.ts';
import { type Listener, startListener } from '../../node/mcp/listener.ts';
import { makeCertificate, NO_OPENSSL } from '../harness/certificates.ts';
import { skipNote } from '../harness/namespaces.ts';
import { CADDY, NAME, NGINX, type RunningProxy, startProxy } from '../harness/proxies.ts';
import { EchoRouter, echoTools, INFO } from './echo-router.ts';
import { INITIALIZE, MCP_HEADERS } from './raw-http.ts';

describe.each([NGINX, CADDY])('behind $name', (kind) => {
  const why = NO_OPENSSL ?? kind.missing;

  describe.skipIf(why !== null)(`as it is set up on the page${skipNote(why)}`, () => {
    let folder: string;
    let router: EchoRouter;
    let listener: Listener;
    let proxy: RunningProxy;
    let agent: Agent;
    const addresses = new Set<string>();

    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), 'flowmesh-proxy-'));
      const certificate = await makeCertificate(folder, 'proxy', [`DNS:${NAME}`]);
      router = new EchoRouter();
      addresses.clear();
      listener = await startListener({
        router,
        host: '127.0.0.1',
        port: 0,
        info: INFO,
        log: silentLog,
        tools: echoTools,
        allowed_hosts: [NAME],
        trusted_proxies: ['127.0.0.1'],
        cors_origins: [],
        identify: (request) => {
          addresses.add(clientAddressOf(request));
          return ANYONE;
        },
      });
      proxy = await startProxy(kind, { folder, certificate, to: listener.url });
      const lookup: LookupFunction = (_name, { all }, found) =>
        all ? found(null, [{ address: '127.0.0.1', family: 4 }]) : found(null, '127.0.0.1', 4);
      const connect = { ca: await readFile(certificate.cert), lookup };
      // Another address than the one that the proxy itself comes from.
      agent = new Agent({ connect, localAddress: '127.0.0.9' });
    });
    afterEach(async () => {
      await agent.destroy();
      await proxy[Symbol.asyncDispose]();
      await listener.close();
      await rm(folder, { recursive: true });
    });

    const url = (path: string) => new URL(path, `https://${NAME}:${proxy.port}`);
    const ask = (path: string, init: object = {}) => fetchThrough(url(path), { ...init, dispatcher: agent });
    async function connected(): Promise<Client> {
      const client = new Client({ name: 'test', version: '1.0.0' });
      const fetchHere = (target: string | URL, init: object = {}) =>
        fetchThrough(target, { ...init, dispatcher: agent });
      await client.connect(new StreamableHTTPClientTransport(url('/mcp'), { fetch: fetchHere as never }));
      return client;
    }

    it('an SDK client hears the progress of a long call while it runs', async () => {
      const client = await connected();
      const heard = Promise.withResolvers<void>();
      const waiting = once(router.events, 'waiting');
      let steps = 0;
      const onprogress = () => {
        steps += 1;
        if (steps === 2) heard.resolve();
      };
      const call = client.callTool({ name: 'wait_cancel', arguments: {} }, undefined, { onprogress });
      await waiting;
      // What waits in a buffer for the end of the call would not come: the call ends after it.
      await heard.promise;
      router.events.emit('release');
      expect((await call).structuredContent).toEqual({ success: true, released: true });
      await client.close();
      expect([...addresses]).toEqual(['127.0.0.9']);
    });

    it('a call that its client cancels is cancelled at the peer', async () => {
      const client = await connected();
      const waiting = once(router.events, 'waiting');
      const cancelled = once(router.events, 'aborted');
      const stop = new AbortController();
      const call = client.callTool({ name: 'wait_cancel', arguments: {} }, undefined, { signal: stop.signal });
      call.catch(() => {});
      await waiting;
      stop.abort();
      await cancelled;
      await client.close();
    });

    it('the largest message passes, and a larger one does not', async () => {
      const client = await connected();
      const text = 'x'.repeat(8 * 1024 * 1024 - 100);
      const answer = await client.callTool({ name: 'echo_text', arguments: { text } });
      expect((answer.structuredContent as { text: string }).text).toHaveLength(text.length);
      const body = Buffer.alloc(MESSAGE_BYTES_MAX + 1, ' ');
      expect((await ask('/mcp', { method: 'POST', headers: MCP_HEADERS, body })).status).toBe(413);
      await client.close();
    });

    it('what a client says of itself in the headers of proxies is not believed', async () => {
      const spoofed = {
        'x-forwarded-for': '1.2.3.4',
        'x-forwarded-host': 'evil.example',
        'x-forwarded-proto': 'http',
        forwarded: 'for=1.2.3.4',
      };
      // The peer's own origin, as this client sees it: with the scheme, host and port of the proxy.
      const headers = { ...MCP_HEADERS, ...spoofed, origin: url('/').origin };
      const opened = await ask('/mcp', { method: 'POST', headers, body: JSON.stringify(INITIALIZE) });
      expect([opened.status, opened.headers.get('strict-transport-security')]).toEqual([200, 'max-age=31536000']);
      expect([...addresses]).toEqual(['127.0.0.9']);
    });

    it('pages of another origin are not let in', async () => {
      const other = await ask('/health', { headers: { origin: 'https://other.example' } });
      expect([other.status, await other.json()]).toMatchObject([403, { error: { code: 'FORBIDDEN_HOST' } }]);
      expect((await ask('/health', { headers: { origin: url('/').origin } })).status).toBe(200);
    });
  });
});
