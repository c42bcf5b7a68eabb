/**
 * HTTPS to a peer of this machine. Its certificate need not be one that this machine trusts, nor name the address: it has
 * to be the one in the file that the peer's own folder names, which only the peer's user can have written.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Agent, buildConnector, fetch as fetchThrough } from 'undici';

/** @param certFile PEM; the first certificate in it is the peer's. Read for each connection: it may be renewed */
export function fetchWithCertificate(certFile: string): typeof fetch {
  const connect: buildConnector.connector = (options, callback) => {
    readFile(certFile).then(
      (pem) => connectorFor(new X509Certificate(pem))(options, callback),
      (error: Error) => callback(error, null),
    );
  };
  const dispatcher = new Agent({ connect });
  const fetchHere = (url: string, init: object) => fetchThrough(url, { ...init, dispatcher });
  return fetchHere as unknown as typeof fetch;
}

function connectorFor(own: X509Certificate): buildConnector.connector {
  return buildConnector({
    ca: own.toString(),
    allowPartialTrustChain: true,
    checkServerIdentity: (_host, { fingerprint256 }) =>
      fingerprint256 === own.fingerprint256 ? undefined : new Error('its certificate is not the one of its tls_cert'),
  });
}
