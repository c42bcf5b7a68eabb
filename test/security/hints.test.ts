/**
 * A named list of attacks of members with what members tell each other beside the peer protocol: statements about
 * members, gossip, the DHT; and with the routes that only the user of a peer may call. Each is refused, nothing grows.
 */

import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { peerIdFromString } from '@libp2p/peer-id';
import { lpStream } from '@libp2p/utils';
import { multiaddr } from '@multiformats/multiaddr';
import { encode } from 'cborg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { configSchema } from '../../node/config/settings.ts';
import { newSigningKey } from '../../node/membership/keys.ts';
import { memberAnswerSchema, unpack } from '../../node/membership/messages.ts';
import { rootNameOf, type Said, type Statement, state } from '../../node/membership/statement.ts';
import { PROVIDER_RECORDS_PER_PEER_MAX } from '../../node/p2p/dht-store.ts';
import { capabilityKey } from '../../node/p2p/discovery.ts';
import { MEMBERSHIP_PROTOCOL } from '../../node/p2p/member-exchange.ts';
import { startPeer } from '../../node/peer.ts';
import type { Mesh } from '../../node/runtimes/mesh.ts';
import { eventually } from '../harness/eventually.ts';
import { testLog } from '../harness/log.ts';
import { rawRequest } from '../mcp/raw-http.ts';
import { ADMIN, ORDINARY } from '../membership/mesh-of-members.ts';
import type { LyingMember } from './member.ts';
import { SecuredMesh, stateOf } from './secured-mesh.ts';

const FLOOD = 2_000;

let mesh: SecuredMesh;
let a: Mesh;
let b: Mesh;
let x: LyingMember;

beforeAll(async () => {
  mesh = await SecuredMesh.of({}, ['a', 'b']);
  [a, b] = [mesh.peer('a'), mesh.peer('b')];
  x = await mesh.liar();
  await x.talking(a.network);
});
afterAll(() => mesh[Symbol.asyncDispose]());

/** A call on the protocol of members. @returns the code of the error, `answered`, or `closed` */
async function tell(call: object | Uint8Array): Promise<string> {
  const stream = await x.host.node.dialProtocol(multiaddr(a.network.addresses()[0]!), MEMBERSHIP_PROTOCOL);
  try {
    const lines = lpStream(stream, { maxDataLength: 16 * 1024 * 1024, maxBufferSize: 32 * 1024 * 1024 });
    await lines.write(call instanceof Uint8Array ? call : encode(call));
    const answer = unpack(memberAnswerSchema, (await lines.read()).subarray());
    return 'error' in answer ? answer.error.code : 'answered';
  } catch {
    return 'closed';
  } finally {
    stream.abort(new Error('it was heard'));
  }
}

const bytesOf = (...statements: Statement[]) => statements.map(({ bytes }) => bytes);

async function unchanged(attack: () => Promise<void>): Promise<void> {
  const know = async () => [(await stateOf(a))['members'], await a.meshRequest('invites', {})];
  const before = await know();
  await attack();
  expect(await know()).toEqual(before);
}

describe('told as a statement about members', () => {
  const own = () => x.membership.ownCertificate().said;
  const id = () => ({ mesh: x.membership.ledger.mesh });
  const by = () => x.self;
  const OF_ITS_OWN: [string, () => Said][] = [
    ['a certificate that makes it an admin', () => ({ ...own(), rights: ADMIN, by: by() })],
    ['a longer certificate for itself', () => ({ ...own(), not_after: own().not_after * 2, by: by() })],
    ['a certificate for another', () => ({ ...own(), peer_id: b.network.self, rights: ORDINARY, by: by() })],
    [
      'the revocation of the founder',
      () => ({
        ...id(),
        kind: 'revocation',
        target: { peer_id: a.network.self },
        keeps: [],
        reason: '',
        at: 1,
        by: by(),
      }),
    ],
    [
      'the revocation of the root',
      () => {
        const root = x.membership.ledger.roots()[0]!.key;
        return { ...id(), kind: 'revocation', target: { root }, keeps: [], reason: '', at: 1, by: by() };
      },
    ],
    ['a rotation', () => ({ ...id(), kind: 'rotation', epoch: 9, at: 1, by: by() })],
  ];

  test.each(OF_ITS_OWN)('%s, signed by itself', async (_what, said) => {
    await unchanged(async () => {
      expect(await tell({ call: 'tell', statements: bytesOf(state(said(), x.membership.key)) })).toBe('answered');
    });
  });

  test.each(OF_ITS_OWN)('%s, in the name of a root that it made', async (_what, said) => {
    const root = newSigningKey();
    await unchanged(async () => {
      const statement = state({ ...said(), by: rootNameOf(root.publicKey) } as Said, root);
      expect(await tell({ call: 'tell', statements: bytesOf(statement) })).toBe('answered');
    });
  });

  test('bytes that nobody signed', async () => {
    await unchanged(async () => {
      const statements = Array.from({ length: 20 }, () => new Uint8Array(100));
      expect(await tell({ call: 'tell', statements })).toBe('CERTIFICATE_FORGED');
      expect(await tell({ call: 'rule', statements })).toBe('closed');
      expect(await tell(new Uint8Array(1_000))).toBe('closed');
    });
  });

  test("a renewal, with another's chain: what it gets is its own", async () => {
    const other = await mesh.liar(['work']);
    expect(await tell({ call: 'renew', chain: other.membership.chain(), roots: [] })).toBe('answered');
    const { members } = (await a.meshRequest('members', {})) as { members: { peer_id: string; roles: string[] }[] };
    expect(members.find(({ peer_id }) => peer_id === x.self)?.roles).toEqual(own().rights.roles);
  });

  test('a flood of void statements, while others are served', async () => {
    await unchanged(async () => {
      const statements = bytesOf(
        ...Array.from({ length: FLOOD }, (_, at) => state({ ...own(), not_before: at, by: by() }, x.membership.key)),
      );
      const told = tell({ call: 'tell', statements });
      expect(await b.network.request(a.network.self, 'describe', {}, 60_000)).toMatchObject({ name: 'a' });
      expect(await told).toBe('answered');
    });
  });
});

describe('gossip', () => {
  test("offers in another's name, too large, that are none, and without end", async () => {
    const before = await stateOf(a);
    const { pubsub } = x.host.node.services;
    const topic = `flowmesh/1/${x.membership.ledger.mesh}/offers`;
    await eventually('a listens to it', () =>
      pubsub!.getSubscribers(topic).some((peer) => String(peer) === a.network.self),
    );
    const publish = (bytes: Uint8Array) => pubsub!.publish(topic, bytes).catch(() => {}); // some are too large to go out
    await publish(encode({ owner: b.network.self, addresses: ['/ip4/127.0.0.1/tcp/1'], classes: [] }));
    await publish(new Uint8Array(100));
    await publish(new Uint8Array(70_000));
    for (let at = 0; at < FLOOD; at++) await publish(encode({ owner: `${at}`, addresses: [], classes: [] }));
    expect(await b.network.request(a.network.self, 'describe', {}, 60_000)).toMatchObject({ name: 'a' });
    expect(await stateOf(a)).toEqual(before);
  });
});

describe('the DHT', () => {
  const about = (peer: string, key: Uint8Array) => {
    const providers = [
      { id: peerIdFromString(peer).toMultihash().bytes, multiaddrs: [multiaddr('/ip4/127.0.0.1/tcp/9').bytes] },
    ];
    return { type: 'ADD_PROVIDER', key, providers, closer: [] };
  };

  test("a provider record in another's name", async () => {
    const key = await capabilityKey(x.membership.ledger.mesh, 'fn:bait');
    await x.dht(a.network.self, about(b.network.self, key.bytes));
    await x.dht(a.network.self, about(x.self, key.bytes));
    await eventually('its own record is there', async () => {
      return (await a.network.findProviders('fn:bait', 8, 2_000)).includes(x.self);
    });
    expect(await a.network.findProviders('fn:bait', 8, 2_000)).not.toContain(b.network.self);
  });

  test('records without end, and values', async () => {
    const victim = await mesh.join('keeper', { roles: ['replicate'] });
    await x.talking(victim.network);
    for (let at = 0; at < PROVIDER_RECORDS_PER_PEER_MAX + 200; at++) {
      const key = await capabilityKey(x.membership.ledger.mesh, `fn:${at}`);
      await x.dht(victim.network.self, about(x.self, key.bytes));
    }
    await x
      .dht(victim.network.self, {
        type: 'PUT_VALUE',
        key: new Uint8Array(32),
        record: new Uint8Array(1_000),
        providers: [],
        closer: [],
      })
      .catch(() => {});
    await mesh.kill('keeper');
    const file = new DatabaseSync(join(mesh.root, 'keeper', 'libp2p.db'), { readOnly: true });
    const keys = file
      .prepare("SELECT key FROM pairs WHERE key LIKE '/dht/%'")
      .all()
      .map(({ key }) => String(key));
    file.close();
    const own = keys.filter((key) => key.startsWith('/dht/provider/') && key.endsWith(x.self));
    expect(own.length).toBeGreaterThan(0);
    expect(own.length).toBeLessThanOrEqual(PROVIDER_RECORDS_PER_PEER_MAX);
    expect(keys.filter((key) => key.startsWith('/dht/record/'))).toEqual([]);
  });
});

describe('what only the user of a peer may ask', () => {
  test('without its key, with another one, as another page, as a form', async () => {
    const config = configSchema.parse({
      runtime: 'inline',
      mdns: false,
      name: 'c',
      data_dir: join(mesh.root, 'c'),
      http: { port: 0 },
    });
    const joined = await mesh.join('c');
    await joined.stop();
    mesh.peers.delete('c');
    const peer = await startPeer(config, testLog('c'));
    try {
      const known = async () => [(await stateOf(peer.mesh!))['members'], await peer.mesh!.meshRequest('invites', {})];
      const before = await known();
      const key = { authorization: `Bearer ${peer.admin_key}` };
      const json = { 'content-type': 'application/json' };
      const post = async (path: string, headers: Record<string, string>, body = '{}') =>
        (await rawRequest(`${peer.http_url}${path}`, { method: 'POST', headers, body })).status;
      for (const asked of [
        'invite',
        'members',
        'invites',
        'revoke',
        'rotate',
        'doctor',
        'key_create',
        'keys',
        'key_revoke',
        'nothing',
      ]) {
        const path = `/mesh/${asked}`;
        expect(await post(path, json)).toBe(401);
        for (const wrong of [
          'Bearer',
          'Bearer x',
          `Basic ${peer.admin_key}`,
          `Bearer ${peer.admin_key}x`,
          'Bearer undefined',
        ])
          expect(await post(path, { ...json, authorization: wrong })).toBe(401);
        expect(await post(path, { ...json, ...key, origin: 'http://example.com' })).toBe(403);
        expect(await post(path, { ...json, ...key, origin: 'null' })).toBe(403);
        expect(await post(path, { ...json, ...key, host: 'example.com' })).toBe(403);
      }
      expect(await post('/mesh/members', { ...key, 'content-type': 'text/plain' })).toBe(415);
      expect((await rawRequest(`${peer.http_url}/mesh/members`, { headers: key })).status).toBe(405);
      expect(await post('/mesh/members', { ...json, ...key })).toBe(200);
      expect(await known()).toEqual(before);
    } finally {
      await peer.stop();
    }
  });
});
