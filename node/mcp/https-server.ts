/**
 * HTTPS with a certificate of two PEM files. They are read again when they change, so that a renewed certificate is
 * served without a restart; connections that are open stay as they are.
 *
 *   const server = await createHttpsServer({ cert: '/etc/flowmesh/cert.pem', key: '/etc/flowmesh/key.pem' }, {}, handle, log);
 *
 * Files that do not belong together (of two, one is written first), or cannot be read, change nothing: the pair before is
 * served on, and the log says why.
 */
import { X509Certificate } from 'node:crypto';
import { type FSWatcher, watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import { createServer, type Server, type ServerOptions } from 'node:https';
import { dirname } from 'node:path';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { FlowmeshError } from '../../dag/errors.ts';
import type { Log } from '../../scheduler/ports.ts';
import { CERTIFICATE_LOOK_MS, CERTIFICATE_SETTLE_MS, HANDSHAKE_TIMEOUT_MS } from './limits.ts';

/** The certificate or its key cannot be served. */
export class TlsFilesError extends FlowmeshError {
  constructor({ cert, key }: TlsFiles, cause: unknown) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super(
      'TLS_UNUSABLE',
      `HTTPS cannot be served with the certificate ${cert} and the key ${key}: ${why}. Give two PEM files that belong together, the key without a passphrase, with --tls-cert and --tls-key (http.tls in the mesh file).`,
      { details: { cert, key }, cause },
    );
  }
}

export interface TlsFiles {
  /** The certificate, followed by those that lead to its authority. */
  cert: string;
  key: string;
}

interface Pair {
  cert: Buffer;
  key: Buffer;
}

/**
 * Follows the files from when it listens until it is closed.
 *
 * @throws TlsFilesError
 */
export async function createHttpsServer(
  files: TlsFiles,
  limits: ServerOptions,
  handle: RequestListener,
  log: Log,
): Promise<Server> {
  const pair = await readPair(files);
  const server = createServer({ handshakeTimeout: HANDSHAKE_TIMEOUT_MS, ...limits, ...contextOf(pair) }, handle);
  const renewal = new Renewal(files, pair, server, log);
  server.once('listening', () => renewal.start());
  server.once('close', () => renewal.stop());
  return server;
}

class Renewal {
  readonly #files: TlsFiles;
  #served: Pair;
  readonly #server: Server;
  readonly #log: Log;
  #watchers: FSWatcher[] = [];
  #looks: NodeJS.Timeout | undefined;
  #soon: NodeJS.Timeout | undefined;
  /** One look after the other. */
  #last: Promise<void> = Promise.resolve();
  /** What the log was told last. */
  #told: string | undefined;

  constructor(files: TlsFiles, served: Pair, server: Server, log: Log) {
    this.#files = files;
    this.#served = served;
    this.#server = server;
    this.#log = log;
  }

  start(): void {
    this.#warnOfExpired();
    // The folders, not the files: a file that is replaced would no longer be the one that is watched.
    for (const folder of new Set([dirname(this.#files.cert), dirname(this.#files.key)])) this.#watch(folder);
    // Links to other folders, and file systems that tell nothing.
    this.#looks = setInterval(() => this.#look(), CERTIFICATE_LOOK_MS).unref();
  }

  stop(): void {
    for (const watcher of this.#watchers) watcher.close();
    clearInterval(this.#looks);
    clearTimeout(this.#soon);
  }

  #watch(folder: string): void {
    const goOn = (error: unknown) => {
      const seconds = CERTIFICATE_LOOK_MS / 1_000;
      this.#log.warn({ err: error, folder }, `a renewed certificate is seen after up to ${seconds} s, not at once`);
    };
    try {
      const watcher = watch(folder, { persistent: false }, () => this.#lookSoon());
      watcher.once('error', goOn);
      this.#watchers.push(watcher);
    } catch (error) {
      goOn(error); // Too many folders are watched on this machine, perhaps.
    }
  }

  /** Two files are rarely written at once. */
  #lookSoon(): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#look();
    }, CERTIFICATE_SETTLE_MS).unref();
  }

  #look(): void {
    this.#last = this.#last.then(() => this.#readAgain());
  }

  async #readAgain(): Promise<void> {
    try {
      const pair = await readPair(this.#files);
      this.#told = undefined;
      if (pair.cert.equals(this.#served.cert) && pair.key.equals(this.#served.key)) return;
      this.#server.setSecureContext(contextOf(pair));
      this.#served = pair;
      this.#log.info({ cert: this.#files.cert, ...factsOf(pair) }, 'a new certificate is served');
      this.#warnOfExpired();
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#told) this.#log.warn({ err: error }, 'the certificate before is served on');
      this.#told = message;
    }
  }

  #warnOfExpired(): void {
    const { valid_to } = factsOf(this.#served);
    if (Date.parse(valid_to) >= Date.now()) return;
    this.#log.warn({ cert: this.#files.cert, valid_to }, 'the certificate has expired: clients refuse it');
  }
}

/** @throws TlsFilesError for what no server could be given */
async function readPair(files: TlsFiles): Promise<Pair> {
  try {
    const [cert, key] = await Promise.all([readFile(files.cert), readFile(files.key)]);
    createSecureContext(contextOf({ cert, key }));
    return { cert, key };
  } catch (error) {
    throw new TlsFilesError(files, error);
  }
}

function contextOf(pair: Pair): SecureContextOptions {
  return { ...pair, minVersion: 'TLSv1.2' };
}

function factsOf({ cert }: Pair): { subject: string; valid_to: string } {
  const { subject, validTo } = new X509Certificate(cert);
  return { subject: subject.replaceAll('\n', ', '), valid_to: validTo };
}
