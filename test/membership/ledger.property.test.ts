/** What a ledger says does not depend on the order in which it learnt, and only roots make admins and issuers. */
import { generateKeyPair } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import { newSigningKey, type SigningKey, signingKeyOf } from '../../node/membership/keys.ts';
import { Ledger } from '../../node/membership/ledger.ts';
import {
  isRoot,
  keyHash,
  type Rights,
  rootNameOf,
  type Said,
  type Statement,
  state,
} from '../../node/membership/statement.ts';
import { ORDINARY } from './mesh-of-members.ts';

const NOW = Date.UTC(2030, 0, 1);
const INVITE = 'aaaaaaaaaaaaaaaaaaaaaa';
const PEERS = 5;
const RIGHTS: Rights[] = [
  ORDINARY,
  { ...ORDINARY, roles: ['work'] },
  { ...ORDINARY, roles: ['admin'] },
  { ...ORDINARY, issue: { member_ttl_ms: 1_000 } },
  { ...ORDINARY, roles: ['submit', 'admin'], issue: { member_ttl_ms: 1_000 } },
];

interface Signer {
  name: string;
  key: SigningKey;
}

let roots: Signer[];
let peers: Signer[];
let mesh: string;

beforeAll(async () => {
  roots = [newSigningKey(), newSigningKey()].map((key) => ({ name: rootNameOf(key.publicKey), key }));
  const identities = await Promise.all(Array.from({ length: PEERS }, () => generateKeyPair('Ed25519')));
  peers = identities.map((key) => ({ name: peerIdFromPrivateKey(key).toString(), key: signingKeyOf(key) }));
  mesh = keyHash(roots[0]!.key.publicKey);
});

/** A signer: below 2 a root, else a peer; each may say anything. */
const signer = fc.oneof({ weight: 2, arbitrary: fc.constantFrom(0, 1) }, fc.integer({ min: 2, max: PEERS + 1 }));
const keeps = fc.array(fc.nat(11), { maxLength: 8 });
const act = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('certificate' as const),
      by: signer,
      peer: fc.nat(PEERS - 1),
      rights: fc.nat(RIGHTS.length - 1),
      epoch: fc.nat(2),
      redemption: fc.option(fc.constantFrom('b', 'c', 'd'), { nil: null }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('out' as const), by: signer, peer: fc.nat(PEERS - 1), keeps }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('invite out' as const), by: signer }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('key' as const), by: signer, key: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('key out' as const), by: signer, key: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('root out' as const), by: signer, keeps }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('rotation' as const), by: signer, epoch: fc.integer({ min: 1, max: 3 }) }),
  },
);
type Act = typeof act extends fc.Arbitrary<infer T> ? T : never;

/** The second root, and what was done after that. */
function statementsOf(acts: readonly Act[]): Statement[] {
  const [first, second] = roots as [Signer, Signer];
  const key = second.key.publicKey;
  const named = {
    kind: 'root' as const,
    mesh,
    key: Buffer.from(key).toString('base64url'),
    rank: 1,
    at: 0,
    by: first.name,
  };
  const made: Statement[] = [state(named, first.key)];
  for (const each of acts) {
    const by = each.by < 2 ? roots[each.by]! : peers[each.by - 2]!;
    made.push(state(saidBy(by.name, each, made), by.key));
  }
  return made;
}

function saidBy(by: string, each: Act, made: readonly Statement[]): Said {
  if (each.kind === 'certificate') {
    const redemption = each.redemption?.repeat(22);
    return {
      ...{ kind: 'certificate', mesh, mesh_name: 'm', peer_id: peers[each.peer]!.name, name: 'n' },
      rights: RIGHTS[each.rights]!,
      invite: redemption === undefined ? null : { id: INVITE, uses: 1, redemption },
      ...{ not_before: NOW, not_after: NOW + 1_000, epoch: each.epoch, by },
    };
  }
  if (each.kind === 'rotation') return { kind: 'rotation', mesh, epoch: each.epoch, at: 0, by };
  const hash = (key: number) => 'kl'[key]!.repeat(43);
  if (each.kind === 'key') {
    const times = { not_before: NOW, not_after: NOW + 1_000 };
    return { kind: 'key', mesh, name: 'k', role: null, permits: [by.slice(0, 60)], hash: hash(each.key), ...times, by };
  }
  const revocation = { kind: 'revocation' as const, mesh, reason: '', at: 0, by };
  if (each.kind === 'key out') {
    return { ...revocation, target: { key: hash(each.key), not_after: NOW + 1_000 }, keeps: [] };
  }
  if (each.kind === 'invite out') return { ...revocation, target: { invite_id: INVITE }, keeps: [] };
  const kept = each.keeps.flatMap((index) => made[index]?.id ?? []);
  if (each.kind === 'out') return { ...revocation, target: { peer_id: peers[each.peer]!.name }, keeps: kept };
  // Whoever drops the first root keeps what it says of the second one, by which it is a root itself.
  const root = rootNameOf(roots[0]!.key.publicKey).slice('root:'.length);
  return { ...revocation, target: { root }, keeps: [made[0]!.id, ...kept] };
}

/** As peers take what others tell: what cannot be taken is left out. */
function tell(ledger: Ledger, statements: readonly Statement[]): void {
  for (const statement of statements) {
    try {
      ledger.add(statement);
    } catch {
      // Refused: its signer is not known, or is revoked.
    }
  }
}

function isNew(ledger: Ledger, statement: Statement): boolean {
  try {
    return ledger.add(statement).added;
  } catch {
    return false;
  }
}

/** As peers that meet: until neither learns anything. */
function meet(a: Ledger, b: Ledger): void {
  for (let round = 0; round < 8 && a.digest() !== b.digest(); round++) {
    tell(b, a.all());
    tell(a, b.all());
  }
}

function standingsIn(ledger: Ledger): unknown[] {
  return peers.map(({ name }) => {
    const standing = ledger.standing(name);
    return [standing?.state, standing?.state === 'member' ? standing.certificate.rights : null];
  });
}

function keysIn(ledger: Ledger): unknown[] {
  return ledger
    .of('key')
    .map((key) => [key.id, ledger.keyState(key)].join())
    .sort();
}

const acts = fc.array(act, { minLength: 1, maxLength: 11 });
const shuffled = acts.chain((list) =>
  fc.tuple(fc.constant(list), fc.shuffledSubarray([...list.keys(), list.length], { minLength: list.length + 1 })),
);

test('two peers that learnt the same in any order say the same once they have met', () => {
  fc.assert(
    fc.property(shuffled, ([list, order]) => {
      const statements = statementsOf(list);
      const [a, b] = [new Ledger(mesh, () => NOW), new Ledger(mesh, () => NOW)];
      tell(a, statements);
      tell(
        b,
        order.map((index) => statements[index]!),
      );
      meet(a, b);
      expect(b.digest()).toBe(a.digest());
      expect(standingsIn(b)).toEqual(standingsIn(a));
      expect(keysIn(b)).toEqual(keysIn(a));
    }),
    { numRuns: 600 },
  );
});

test('who may issue or is admin has that from a root, and a member has its place from a root or an issuer', () => {
  fc.assert(
    fc.property(shuffled, ([list, order]) => {
      const statements = statementsOf(list);
      const ledger = new Ledger(mesh, () => NOW);
      for (let round = 0; round < 3; round++) {
        tell(
          ledger,
          order.map((index) => statements[index]!),
        );
      }
      for (const { name } of peers) {
        const standing = ledger.standing(name);
        if (standing?.state !== 'member') continue;
        const { by, rights } = standing.certificate;
        if (rights.issue !== null || rights.roles.includes('admin')) expect(isRoot(by)).toBe(true);
        if (isRoot(by)) expect(roots.map((root) => root.name)).toContain(by);
        else
          expect(ledger.certificatesOf(by).some(({ said }) => said.rights.issue !== null && isRoot(said.by))).toBe(
            true,
          );
        expect(ledger.whyRevoked(name)).toBeUndefined();
      }
    }),
    { numRuns: 300 },
  );
});

test('what is taken once is not new again: nothing is told round and round', () => {
  fc.assert(
    fc.property(acts, (list) => {
      const ledger = new Ledger(mesh, () => NOW);
      const statements = statementsOf(list);
      for (let round = 0; round < 3; round++) tell(ledger, statements);
      const digest = ledger.digest();
      for (const statement of statements) expect(isNew(ledger, statement)).toBe(false);
      expect(ledger.digest()).toBe(digest);
    }),
    { numRuns: 200 },
  );
});
