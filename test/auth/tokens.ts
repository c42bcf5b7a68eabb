/** Who makes tokens, in tests: keys, a server that gives the public ones, and tokens that are right but for what is asked. */
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWTHeaderParameters, type JWTPayload, SignJWT } from 'jose';
import { type AuthSettings, authSchema } from '../../node/config/auth.ts';

export const ISSUER = 'https://id.example.org/';
export const AUDIENCE = 'flowmesh';
export const SECRET = 'a secret of the tests, of 44 characters or so';

type SigningKey = Awaited<ReturnType<typeof generateKeyPair>>['privateKey'];

export interface Minted {
  claims?: JWTPayload;
  /** Claims that are left out. */
  without?: string[];
  header?: Partial<JWTHeaderParameters>;
  key?: SigningKey | Uint8Array;
}

/** Makes tokens with a key of its own, whose public half is at `jwks_url`. */
export class TokenMaker implements AsyncDisposable {
  readonly #server: Server;
  readonly #key: SigningKey;
  readonly #alg: string;
  /** How often the public keys were asked for. */
  asked = 0;

  private constructor(server: Server, key: SigningKey, alg: string) {
    this.#server = server;
    this.#key = key;
    this.#alg = alg;
  }

  static async start(alg = 'ES256'): Promise<TokenMaker> {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
    const body = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'one', alg, use: 'sig' }] });
    const server = await serve((_request, response) => {
      maker.asked += 1;
      response.setHeader('content-type', 'application/json').end(body);
    });
    const maker: TokenMaker = new TokenMaker(server, privateKey, alg);
    return maker;
  }

  get jwks_url(): string {
    return urlOf(this.#server);
  }

  token({ key, header, ...minted }: Minted = {}): Promise<string> {
    return sign(minted, { alg: this.#alg, kid: 'one', ...header }, key ?? this.#key);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await stop(this.#server);
  }
}

/** A token that is signed with SECRET. */
export function secretToken({ key, header, ...minted }: Minted = {}): Promise<string> {
  return sign(minted, { alg: 'HS256', ...header }, key ?? Buffer.from(SECRET));
}

function sign({ claims, without = [] }: Minted, header: JWTHeaderParameters, key: SigningKey | Uint8Array) {
  const now = Math.floor(Date.now() / 1_000);
  const all: JWTPayload = { iss: ISSUER, aud: AUDIENCE, sub: 'ada', role: 'user', iat: now, exp: now + 600, ...claims };
  const left = Object.entries(all).filter(([name]) => !without.includes(name));
  return new SignJWT(Object.fromEntries(left)).setProtectedHeader(header).sign(key);
}

/** A token in whose place nobody signed: `alg` as it is asked for, any signature. */
export function unsigned(header: object, signature = ''): string {
  const now = Math.floor(Date.now() / 1_000);
  const claims = { iss: ISSUER, aud: AUDIENCE, sub: 'ada', role: 'admin', exp: now + 600 };
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part(header)}.${part(claims)}.${signature}`;
}

/** As `unsigned`, and signed with SECRET all the same: with a header that no library signs. */
export function signedBySecret(header: object): string {
  const body = unsigned(header).slice(0, -1);
  return `${body}.${createHmac('sha256', SECRET).update(body).digest('base64url')}`;
}

/** The settings of a peer that takes tokens of a maker. */
export function settingsFor(jwks_url: string, jwt: object = {}, auth: object = {}): AuthSettings {
  const of = { jwks_url, jwks_private: true, issuer: ISSUER, audience: AUDIENCE, ...jwt };
  return authSchema.parse({ ...auth, jwt: of });
}

export async function serve(listener: RequestListener): Promise<Server> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

export function urlOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`;
}

export async function stop(server: Server): Promise<void> {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
}
