/**
 * Certificates for tests, made with the command that docs/transport.md shows:
 *
 *   const { cert, key } = await makeCertificate(folder, 'peer', ['DNS:peer.example', 'IP:127.0.0.1']);
 */
import { execFile, execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Why there can be none here, or null. */
export const NO_OPENSSL: string | null = whyNot();

function whyNot(): string | null {
  try {
    execFileSync('openssl', ['version'], { stdio: 'pipe' });
    return null;
  } catch {
    return 'no openssl command (package openssl)';
  }
}

/** Self-signed; in `<name>-cert.pem` and `<name>-key.pem`. @param names `DNS:…` and `IP:…` */
export async function makeCertificate(
  folder: string,
  name: string,
  names: readonly string[] = ['IP:127.0.0.1'],
): Promise<{ cert: string; key: string }> {
  const files = { cert: join(folder, `${name}-cert.pem`), key: join(folder, `${name}-key.pem`) };
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30'];
  const who = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=${names.join(',')}`];
  await run('openssl', ['req', '-x509', ...kind, ...who, '-keyout', files.key, '-out', files.cert]);
  return files;
}
