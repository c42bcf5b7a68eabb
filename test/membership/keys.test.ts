/** Keys of callers as statements of the mesh: who may make and end them, and what every member knows of them then. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { keyHashOf, keysIn, looksLikeKey, newKey, watchKeys } from '../../node/membership/api-key.ts';
import { EXPIRED_KEPT_MS, KEY_TTL_MS, KEYS_MAX } from '../../node/membership/limits.ts';
import { serveMeshRequest } from '../../node/membership/requests.ts';
import { type Key, type Statement, state } from '../../node/membership/statement.ts';
import { ADMIN, ADMITTED, codeOf, HOUR_MS, type Member, MembersOnDisk, ORDINARY } from './mesh-of-members.ts';

let mesh: MembersOnDisk;
let founder: Member;

beforeEach(async () => {
  mesh = new MembersOnDisk();
  founder = await mesh.found();
});
afterEach(() => mesh.close());

const CI = { name: 'ci', role: 'user', permits: ['worker:read'], ttl_ms: HOUR_MS };

const joined = (rights = ORDINARY) => mesh.join(mesh.token(founder, { rights }), founder);

/** The name and the end of each key that a member knows to be good. */
function goodAt({ membership: { ledger } }: Member): string[] {
  return ledger.of('key').flatMap((key) => (ledger.keyState(key) === 'good' ? [key.said.name] : []));
}

describe('the text of a key', () => {
  test('is found by scanners, and tells a part of itself from itself', () => {
    const { text, hash } = newKey();
    expect(text).toMatch(/^fmk1_[A-Za-z0-9_-]{48}$/);
    expect(keyHashOf(text)).toBe(hash);
    const other = text.endsWith('A') ? 'B' : 'A';
    for (const wrong of [
      text.slice(0, -1),
      `${text}A`,
      text.slice(0, -1) + other,
      text.replace('fmk1_', 'fmk2_'),
      '',
    ]) {
      expect(keyHashOf(wrong)).toBeNull();
    }
    expect(looksLikeKey('fmk1_x')).toBe(true);
    expect(looksLikeKey('eyJ')).toBe(false);
  });

  test('of the many texts that are decoded to the same bytes one is the key', () => {
    const { text } = newKey();
    for (const wrong of [
      text.replaceAll('_', '/').replace('fmk1/', 'fmk1_'),
      `${text.slice(0, -1)} `,
      `${text.slice(0, -1)}=`,
    ]) {
      if (wrong !== text) expect(keyHashOf(wrong)).toBeNull();
    }
  });
});

describe('a key', () => {
  test('is known to all members, who do not know its text', async () => {
    const other = await joined();
    const { text, key } = founder.authority.createKey(CI);
    mesh.meet(founder, other);
    expect(keysIn(other.membership.ledger)).toEqual([
      {
        ...{ name: 'ci', role: 'user', permits: ['worker:read'], hash: keyHashOf(text) },
        ...{ not_before: mesh.now, not_after: mesh.now + HOUR_MS, revoked: false },
      },
    ]);
    const secret = text.slice(5);
    expect(Buffer.from(key.bytes).includes(Buffer.from(secret, 'base64url').subarray(0, 32))).toBe(false);
    expect(JSON.stringify(key.said)).not.toContain(secret);
  });

  test('is made and ended by admins alone, also when a statement says otherwise', async () => {
    const [other, admin] = [await joined(), await joined(ADMIN)];
    expect(codeOf(() => other.authority.createKey(CI))).toBe('NEEDS_ADMIN');
    expect(codeOf(() => admin.authority.createKey(CI))).toBe(ADMITTED);
    mesh.meet(founder, other, admin);
    expect(codeOf(() => other.authority.revokeKey('ci', ''))).toBe('NEEDS_ADMIN');
    const said = { ...admin.membership.ledger.of('key')[0]!.said, name: 'mine', by: other.peer };
    const forged = state<Key>(said, other.membership.key);
    expect(codeOf(() => founder.membership.learn([forged]))).toBe('CERTIFICATE_FORGED');
    expect(founder.membership.learnFrom(other.peer, [forged.bytes])).toEqual([]);
    expect(goodAt(founder)).toEqual(['ci']);
  });

  test('that is ended is ended for every member that hears of it, in whatever order', async () => {
    const [a, b] = [await joined(), await joined()];
    founder.authority.createKey(CI);
    mesh.meet(founder, a);
    founder.authority.revokeKey('ci', 'it was in a log');
    mesh.meet(founder, a, b);
    for (const each of [founder, a, b]) expect(keysIn(each.membership.ledger)).toMatchObject([{ revoked: true }]);
    expect(codeOf(() => founder.authority.revokeKey('ci', ''))).toBe('UNKNOWN_KEY');
    expect(codeOf(() => founder.authority.revokeKey('unknown', ''))).toBe('UNKNOWN_KEY');
  });

  test('has a name of its own while it is good', () => {
    founder.authority.createKey(CI);
    expect(codeOf(() => founder.authority.createKey(CI))).toBe('KEY_EXISTS');
    founder.authority.revokeKey('ci', '');
    expect(codeOf(() => founder.authority.createKey(CI))).toBe(ADMITTED);
    mesh.now += HOUR_MS + 1;
    expect(codeOf(() => founder.authority.createKey(CI))).toBe(ADMITTED);
    expect(goodAt(founder)).toEqual(['ci']);
  });

  test('ends with who made it: whoever had that machine may have made some', async () => {
    const admin = await joined(ADMIN);
    // The founder has the root, whose keys do not end with an admin.
    founder.authority.createKey({ ...CI, name: 'of the root'.replaceAll(' ', '-') });
    admin.authority.createKey(CI);
    mesh.meet(founder, admin);
    expect(goodAt(founder).sort()).toEqual(['ci', 'of-the-root']);
    founder.authority.revoke({ peer_id: admin.peer }, { reason: 'stolen', issued: false });
    expect(goodAt(founder)).toEqual(['of-the-root']);
  });

  test('is forgotten long after its end, and what ended it with it; neither comes back', async () => {
    const other = await joined();
    founder.authority.createKey(CI);
    founder.authority.revokeKey('ci', '');
    mesh.meet(founder, other);
    mesh.now += HOUR_MS + EXPIRED_KEPT_MS + 1;
    founder.membership.tidy();
    expect([founder.membership.ledger.of('key'), founder.membership.ledger.of('revocation')]).toEqual([[], []]);
    mesh.meet(other, founder);
    expect(founder.membership.ledger.of('key')).toEqual([]);
  });

  test('there are so many and no more, but the root may always make one', async () => {
    const admin = await joined(ADMIN);
    const key = (index: number): Statement<Key> =>
      state<Key>(
        {
          ...{ kind: 'key', mesh: founder.membership.ledger.mesh, name: `k${index}`, role: 'user', permits: [] },
          hash: Buffer.alloc(32, index)
            .fill(index >> 8, 0, 1)
            .toString('base64url'),
          ...{ not_before: mesh.now, not_after: mesh.now + HOUR_MS, by: admin.peer },
        },
        admin.membership.key,
      );
    admin.membership.learn(Array.from({ length: KEYS_MAX }, (_, index) => key(index)));
    expect(codeOf(() => admin.authority.createKey(CI))).toBe('MESH_FULL');
    mesh.meet(admin, founder);
    expect(codeOf(() => founder.authority.createKey(CI))).toBe(ADMITTED);
  });
});

test('who watches the keys is told at once, and only when they have changed', () => {
  const told: string[][] = [];
  const stop = watchKeys(founder.membership, (keys) => {
    told.push(keys.map(({ name, revoked }) => `${name}${revoked ? ' ended' : ''}`));
  });
  founder.authority.createKey(CI);
  mesh.token(founder);
  founder.authority.revokeKey('ci', '');
  stop();
  founder.authority.createKey(CI);
  expect(told).toEqual([[], ['ci'], ['ci ended']]);
});

describe('what an admin asks of its peer', () => {
  const ask = (request: 'key_create' | 'keys' | 'key_revoke', input: object) => {
    const reach = () => ({ listens: [], announces: [], peers: [], notes: [] });
    return serveMeshRequest({ ...founder, reach, tryAddresses: async () => [] }, request, input);
  };

  test('a key is shown once', async () => {
    const made = await ask('key_create', { name: 'ci', role: 'user' });
    expect(keyHashOf(String(made['key']))).not.toBeNull();
    expect(made['expires_at']).toBe(new Date(mesh.now + KEY_TTL_MS).toISOString());
    const { keys } = await ask('keys', {});
    expect(keys).toMatchObject([{ name: 'ci', role: 'user', permits: [], state: 'good', made_by: 'root' }]);
    expect(JSON.stringify(keys)).not.toContain(String(made['key']).slice(5));
    expect(await ask('key_revoke', { name: 'ci' })).toMatchObject({ revoked: 'ci', keys: 1 });
    expect(await ask('keys', {})).toMatchObject({ keys: [{ state: 'revoked' }] });
  });

  test.for([
    [{ name: 'ci' }, /needs a role or a permission/],
    [{ name: 'ci', permits: ['workflow:fly'] }, /must be a permission/],
    [{ name: '(settings)', role: 'user' }, /must be 1 to 64 characters/],
    [{ name: 'ci', role: 'user', ttl_ms: 3 * 365 * 24 * HOUR_MS }, /ttl_ms/],
    [{ name: 'ci', role: 'Chief' }, /name of a role/],
  ] as const)('%j is refused', async ([input, why]) => {
    await expect(ask('key_create', input)).rejects.toThrow(why);
    expect(await ask('keys', {})).toEqual({ keys: [] });
  });

  test.for(['key_create', 'keys', 'key_revoke'] as const)(
    '%s in an open mesh says what there is instead',
    async (asked) => {
      await expect(serveMeshRequest(null, asked, {})).rejects.toThrow(/flowmesh mesh init.*API_KEY.*JWT_SECRET/);
    },
  );
});
