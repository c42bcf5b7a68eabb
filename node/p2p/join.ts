/** A machine joins a mesh: it shows an invite to a member that may take it in, and keeps the certificate that it gets. */
import type { PrivateKey } from '@libp2p/interface';
import { noise } from '@libp2p/noise';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { createLibp2p } from 'libp2p';
import { FlowmeshError, RemoteError } from '../../dag/errors.ts';
import type { Log } from '../../scheduler/ports.ts';
import { joinText } from '../membership/authority.ts';
import { MembershipError } from '../membership/errors.ts';
import { signingKey } from '../membership/keys.ts';
import { inOrder, Ledger } from '../membership/ledger.ts';
import { LEDGER_BYTES_MAX } from '../membership/limits.ts';
import { Membership } from '../membership/membership.ts';
import { decisionSchema, type Offer, offerSchema } from '../membership/messages.ts';
import { type Certificate, isRoot, readStatement, rootKeyOf, type Statement } from '../membership/statement.ts';
import type { Token } from '../membership/token.ts';
import { parseAddress } from './addresses.ts';
import { ADMISSION_PROTOCOL, Lines } from './admission.ts';
import { PeerUnreachableError, reasonOf } from './errors.ts';

const DIAL_TIMEOUT_MS = 10_000;

export interface JoinOptions {
  dataDir: string;
  identity: PrivateKey;
  token: Token;
  /** How people call this machine. */
  name: string;
  /** Wall-clock milliseconds. */
  now: () => number;
  log: Log;
}

/**
 * Asks the sponsors of a token one after the other.
 *
 * @returns what is kept now; to be closed
 * @throws MembershipError why a sponsor refused, PeerUnreachableError when none could be reached
 */
export async function joinMesh(options: JoinOptions): Promise<Membership> {
  const { token, identity, dataDir, now, log } = options;
  Membership.mustBeFree(dataDir, token.invite.said.mesh);
  const failures: string[] = [];
  for (const sponsor of token.sponsors) {
    try {
      const statements = await askSponsor(sponsor, options);
      const { mesh, mesh_name } = token.invite.said;
      return Membership.begin(
        { dataDir, identity, now, log },
        { mesh, mesh_name, sponsors: token.sponsors },
        statements,
      );
    } catch (error) {
      // One that is no issuer, or lost its root key, is no reason not to ask the next.
      const final = error instanceof FlowmeshError && !error.retryable && !ASK_NEXT.has(error.code);
      if (final) throw error;
      failures.push(`${sponsor}: ${reasonOf(error)}`);
    }
  }
  throw new PeerUnreachableError(
    `at ${token.sponsors.join(' or ')}`,
    `none of the members that the invite names could take this machine in (${failures.join('; ')})`,
  );
}

const ASK_NEXT = new Set(['NEEDS_ROOT', 'NOT_AN_ISSUER', 'PEER_UNREACHABLE']);

/** Ends a connection that has done what it was for. */
class Done extends Error {}

async function askSponsor(address: string, options: JoinOptions): Promise<Statement[]> {
  let outcome: Statement[] | FlowmeshError | undefined;
  const node = await createLibp2p({
    privateKey: options.identity,
    addresses: { listen: [] },
    transports: [tcp()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: () => false },
    connectionEncrypters: [
      (components) => ({
        protocol: ADMISSION_PROTOCOL,
        secureInbound: () => Promise.reject(new Done('a joiner listens nowhere')),
        async secureOutbound(connection, how) {
          const secured = await noise()(components).secureOutbound(connection, how);
          try {
            outcome = await redeem(new Lines(secured.connection, how?.signal), secured.remotePeer.toString(), options);
          } catch (error) {
            if (error instanceof FlowmeshError) outcome = error;
            throw error;
          }
          throw new Done('joined');
        },
      }),
    ],
  });
  try {
    await node.dial(parseAddress(address), { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) });
  } catch (error) {
    if (outcome === undefined) throw new PeerUnreachableError(`at ${address}`, reasonOf(error), error);
  } finally {
    await node.stop();
  }
  if (outcome instanceof FlowmeshError) throw outcome;
  return outcome!;
}

async function redeem(lines: Lines, sponsor: string, options: JoinOptions): Promise<Statement[]> {
  const { token, identity, name, now } = options;
  const offer = await lines.read(offerSchema);
  const ledger = sponsorsLedger(sponsor, offer, token, now);
  const { invite, key } = token;
  const proven = joinText(peerIdFromPrivateKey(identity).toString(), sponsor, offer.nonce, invite.said.id);
  await lines.write({ as: 'joiner', invite: invite.bytes, proof: signingKey(key).sign(proven), name });
  const decision = await lines.read(decisionSchema, 2 * LEDGER_BYTES_MAX);
  if (!decision.admitted) throw new RemoteError(decision.error);
  for (const statement of inOrder(decision.statements.map((bytes) => readStatement(bytes)))) {
    try {
      ledger.add(statement);
    } catch (error) {
      options.log.debug({ id: statement.id, reason: reasonOf(error) }, 'a statement of the mesh was not taken');
    }
  }
  return ledger.all();
}

/** What the sponsor shows of itself, checked against the token: nothing was said to it yet. */
function sponsorsLedger(sponsor: string, offer: Offer, token: Token, now: () => number): Ledger {
  const { mesh } = token.invite.said;
  const refuse = (why: string): never => {
    throw new MembershipError(
      'OTHER_MESH',
      `${sponsor} answers at the address of a member and ${why}. Nothing was said to it. Ask for a new invite.`,
    );
  };
  if (offer.mesh !== mesh) refuse('is of another mesh');
  const ledger = new Ledger(mesh, now);
  const [own, ...issuer] = offer.chain.map((bytes) => readStatement(bytes) as Statement<Certificate>);
  if (own?.said.kind !== 'certificate' || own.said.peer_id !== sponsor)
    return refuse('shows no certificate of its own');
  for (const statement of inOrder([...offer.roots.map((bytes) => readStatement(bytes)), ...issuer, own])) {
    ledger.add(statement);
  }
  const standing = ledger.judge(own);
  if (standing.state !== 'member') throw standing.why;
  const top = isRoot(own.said.by) ? own : issuer[0];
  if (top === undefined || !comesFrom(rootKeyOf(top.said.by), Buffer.from(token.root).toString('base64url'), ledger)) {
    refuse('its certificate does not come from the root that the invite names');
  }
  return ledger;
}

/** Whether one root is the other, or was named by it, or by one that was. */
function comesFrom(root: string, ancestor: string, ledger: Ledger): boolean {
  if (root === ancestor) return true;
  const named = ledger.of('root').find(({ said }) => said.key === root);
  return named !== undefined && comesFrom(rootKeyOf(named.said.by), ancestor, ledger);
}
