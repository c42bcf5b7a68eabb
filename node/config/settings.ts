/**
 * What one peer is told about itself. `settingsSchema` is the shape of a mesh file (`bootstrap.json`): every field may be
 * missing. What only the host can answer (a free data folder, a free port) stays undefined in `Settings` and is filled in
 * when the peer takes its place (`node/cli/place.ts`); `configSchema` is the result, with nothing left open.
 */
import { isIP, isIPv6 } from 'node:net';
import { availableParallelism, totalmem } from 'node:os';
import { resolve } from 'node:path';
import { multiaddr } from '@multiformats/multiaddr';
import { z } from 'zod';
import { FlowmeshError } from '../../dag/errors.ts';
import { DURATION_MS_MAX } from '../../dag/limits.ts';
import { callerIdSchema } from '../../scheduler/caller.ts';
import {
  BEAT_INTERVAL_MS,
  COPIES_DEFAULT,
  COPIES_MAX,
  HISTORY_DAYS_DEFAULT,
  HISTORY_ROOTS_DEFAULT,
  OFFER_INTERVAL_MS,
  TAKEOVER_MS,
  WORKER_SLOTS_MAX,
} from '../../scheduler/limits.ts';
import { LOG_LEVELS } from '../log.ts';
import { authSchema } from './auth.ts';
import { networkOf } from './networks.ts';
import { peerIdSchema } from './peer-id.ts';
import { policySchema } from './policy.ts';
import { limitsSchema } from './quotas.ts';

export const DEFAULT_HTTP_PORT = 7601;
/** Of a peer of a secured mesh; those of an open one take the port of the bootstrap address, or any. */
export const DEFAULT_P2P_PORT = 7700;
export const DEFAULT_LISTEN = '/ip4/127.0.0.1/tcp/0';
export const RUNTIMES = ['dedicated', 'inline'] as const;
const CONNECTIONS_MAX = 1_000;
const BOOTSTRAP_ADDRESSES_MAX = 100;
const BYTES_PER_GIB = 2 ** 30;
const SLOTS_DEFAULT_MIN = 4;
/** What ends processes on other machines waits for 30 s by itself: enough is left of that to hand the rest back. */
const DRAIN_TIMEOUT_DEFAULT_MS = 20_000;
const HISTORY_DAYS_MAX = 36_500;
const HISTORY_ROOTS_MAX = 10_000_000;
const WEIGHT_MIN = 0.01;
const WEIGHT_MAX = 100;
const TUNING_MS_MIN = 10;
const TUNING_MS_MAX = 600_000;

const portSchema = z
  .int('must be a whole number from 0 to 65535')
  .min(0, 'must be a whole number from 0 to 65535')
  .max(65_535, 'must be a whole number from 0 to 65535');

const hostSchema = z.string().min(1, 'must not be empty');

const addressSchema = z.string().superRefine((value, context) => {
  const message = multiaddrProblem(value);
  if (message !== null) context.addIssue({ code: 'custom', message });
});

/**
 * A mesh that everybody may enter is for one machine.
 *
 * @throws FlowmeshError INVALID_CONFIG
 */
export function refuseOpenElsewhere(listen: readonly string[]): void {
  const open = listen.find((address) => !isLoopback(tcpOf(address)?.host ?? ''));
  if (open === undefined) return;
  throw new FlowmeshError(
    'INVALID_CONFIG',
    `listen: ${open} must be a loopback address such as /ip4/127.0.0.1/tcp/7600: this peer's mesh is open to everyone who can connect. Make it a mesh of invited machines first: flowmesh mesh init, or flowmesh join on a machine that was invited.`,
    { details: { listen: open } },
  );
}

/**
 * What is wrong with an address of HTTP, as the end of a sentence; null when it is good. `assertSafeToListen` in
 * `node/mcp/host-check.ts` is the second door.
 */
export function openHttpProblem({ http, auth }: Pick<Settings, 'http' | 'auth'>): string | null {
  if (http === null || auth !== null || isLoopback(http.host)) return null;
  return 'must be a loopback address such as 127.0.0.1: this peer would serve other machines without authentication. Have it ask who calls with --auth (FLOWMESH_AUTH=true, or auth in the mesh file), or let them in through an SSH tunnel or a proxy that authenticates';
}

const durationSchema = z
  .int('must be a whole number of milliseconds')
  .min(TUNING_MS_MIN, `must be at least ${TUNING_MS_MIN} ms`)
  .max(TUNING_MS_MAX, `must be at most ${TUNING_MS_MAX} ms`);

const variableSchema = z
  .string()
  .regex(/^([^=\0*]+\*?|\*)$/, 'must be the name of a variable, or the beginning of names followed by *');

const workerSchema = z.strictObject({
  worker_id: z
    .string()
    .regex(/^[A-Za-z0-9_.:-]{1,128}$/, 'must be 1 to 128 characters of A-Z a-z 0-9 . _ : -')
    .optional()
    .describe("Id of this peer's own worker (default: made from the peer id)"),
  slots: z
    .int('must be a whole number')
    .min(0, 'must be at least 0')
    .max(WORKER_SLOTS_MAX, `must be at most ${WORKER_SLOTS_MAX}`)
    .default(() => Math.max(SLOTS_DEFAULT_MIN, availableParallelism()))
    .describe(`Tasks run here at once; 0 runs none (default: the number of cores, at least ${SLOTS_DEFAULT_MIN})`),
  labels: z
    .array(z.string().min(1, 'must not be empty').max(128, 'must have at most 128 characters'))
    .default([])
    .describe('Labels that steps can require, e.g. gpu or region=eu'),
  cpu_cores: z
    .number('must be a number')
    .min(0, 'must be at least 0')
    .default(() => availableParallelism())
    .describe('Cores offered to steps (default: all of this machine)'),
  memory_gb: z
    .number('must be a number')
    .min(0, 'must be at least 0')
    .default(() => Math.round((totalmem() / BYTES_PER_GIB) * 10) / 10)
    .describe('Memory offered to steps, in GiB (default: all of this machine)'),
});

const common = {
  mesh: z
    .string()
    .regex(
      /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
      'must be 1 to 63 characters of A-Z a-z 0-9 . _ - and start with a letter or digit',
    )
    .default('default')
    .describe('Name of the mesh; peers of another mesh are refused'),
  bootstrap: z
    .array(addressSchema)
    .max(BOOTSTRAP_ADDRESSES_MAX, `must have at most ${BOOTSTRAP_ADDRESSES_MAX} addresses`)
    .default([])
    .describe('Addresses dialled to join the mesh, e.g. /ip4/127.0.0.1/tcp/7600; a PeerId at the end is optional'),
  stdio: z
    .boolean('must be true or false')
    .default(false)
    .describe('Serve MCP on stdin and stdout too; the peer stops when stdin closes'),
  runtime: z
    .enum(RUNTIMES)
    .default('dedicated')
    .describe('dedicated: the mesh runs on an event loop of its own; inline: one loop for all, for small machines'),
  worker: workerSchema.prefault({}),
  shell: z
    .strictObject({
      allow: z
        .array(z.string().min(1, 'must not be empty'))
        .default([])
        .describe(
          "Commands (names or absolute paths) that shell steps may run here; '*' is every one; none means no shell",
        ),
      step_env: z
        .array(variableSchema)
        .default([])
        .describe(
          'Variables that shell steps may set by their env where only named commands are allowed, e.g. TARGET or APP_*',
        ),
    })
    .prefault({}),
  http_action: z
    .strictObject({
      private: z
        .boolean('must be true or false')
        .default(false)
        .describe('Lets http steps reach private and loopback addresses'),
      allow: z
        .array(z.string().min(1, 'must not be empty'))
        .default([])
        .describe('Hosts that http steps may reach; none means every public host'),
    })
    .prefault({}),
  auth: authSchema
    .nullable()
    .default(null)
    .describe(
      'Ask everybody who calls over HTTP for a key or a token; needed for an http.host that other machines reach (default: nobody is asked)',
    ),
  audit: z
    .boolean('must be true or false')
    .optional()
    .describe('Keep an audit trail of every call and every refused request in the data folder (default: with auth)'),
  limits: limitsSchema.prefault({}).describe('How much each caller may ask, where callers are asked who they are'),
  policy: policySchema
    .optional()
    .describe('Which callers may run what here: the first rule that names the caller decides; absent: everybody'),
  pass_env: z
    .array(variableSchema)
    .default([])
    .describe(
      "Variables of this peer's environment that shell and fn steps get too, e.g. AWS_PROFILE or SSL_* (always: PATH, HOME, LANG, LC_*, TZ, TMPDIR)",
    ),
  functions: z
    .array(z.string().min(1, 'must not be empty'))
    .default([])
    .describe('Module files whose exports become fn:<name> actions'),
  mdns: z
    .boolean('must be true or false')
    .optional()
    .describe('Find peers of this mesh in the local network by mDNS (default: in a secured mesh only)'),
  gossip: z.boolean('must be true or false').default(true).describe('Gossip offers of waiting tasks'),
  auto_connect: z
    .boolean('must be true or false')
    .default(true)
    .describe('Connect to peers that other peers tell of, up to target_connections'),
  target_connections: z
    .int('must be a whole number')
    .min(1, 'must be at least 1')
    .max(CONNECTIONS_MAX, `must be at most ${CONNECTIONS_MAX}`)
    .default(32)
    .describe('Connections to keep open by dialling peers that others tell of'),
  log_level: z.enum(LOG_LEVELS).default('info').describe('Least severe log lines written to stderr'),
  copies: z
    .int('must be a whole number')
    .min(1, 'must be at least 1')
    .max(COPIES_MAX, `must be at most ${COPIES_MAX}`)
    .default(COPIES_DEFAULT)
    .describe('Disks that keep what is accepted here, the own one among them, when its submit does not say'),
  history_days: z
    .number('must be a number')
    .min(0, 'must be at least 0')
    .max(HISTORY_DAYS_MAX, `must be at most ${HISTORY_DAYS_MAX}`)
    .default(HISTORY_DAYS_DEFAULT)
    .describe('Days after their end for which workflows and tasks that were accepted here are kept'),
  history_max: z
    .int('must be a whole number')
    .min(0, 'must be at least 0')
    .max(HISTORY_ROOTS_MAX, `must be at most ${HISTORY_ROOTS_MAX}`)
    .default(HISTORY_ROOTS_DEFAULT)
    .describe('Ended workflows and tasks that are kept; the oldest beyond this are forgotten sooner'),
  caller_weights: z
    .record(callerIdSchema, z.number('must be a number').min(WEIGHT_MIN).max(WEIGHT_MAX))
    .default({})
    .describe(
      'Turns that callers get in the queue of this peer for each one of other callers, by their ids, e.g. {"key:ci": 2}',
    ),
  gone: z
    .array(peerIdSchema)
    .default([])
    .describe('Peers that will never come back: a feed that waits for their word after a restart goes on without it'),
  drain_timeout_ms: z
    .int('must be a whole number of milliseconds')
    .min(0, 'must be at least 0')
    .max(DURATION_MS_MAX, `must be at most ${DURATION_MS_MAX}`)
    .default(DRAIN_TIMEOUT_DEFAULT_MS)
    .describe(
      'How many milliseconds the tasks that run here may take to end when the peer is told to stop (SIGTERM, node drain); then they are handed back; 0 hands them back at once',
    ),
  takeover_ms: durationSchema
    .default(TAKEOVER_MS)
    .describe(
      'A silent peer is given up, and its work taken over, after this many milliseconds; after half of them when it cannot be dialled and other peers are there',
    ),
  beat_interval_ms: durationSchema
    .default(BEAT_INTERVAL_MS)
    .describe('Milliseconds between the state messages of connected peers'),
  offer_interval_ms: durationSchema.default(OFFER_INTERVAL_MS).describe('Milliseconds between two gossiped offers'),
};

const HTTP_LIST_MAX = 1_000;
const listSchema = (item: z.ZodString) =>
  z.array(item).max(HTTP_LIST_MAX, `must have at most ${HTTP_LIST_MAX} entries`);
const originSchema = z.string().refine(isOrigin, 'must be an origin such as https://app.example, as browsers send it');
const proxySchema = z
  .string()
  .refine((text) => networkOf(text) !== undefined, 'must be an address or a network such as 10.0.0.7 or 10.0.0.0/8');
const hostNameSchema = z
  .string()
  .refine(
    (text) => isIP(text) !== 0 || /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i.test(text),
    'must be a name such as peer.example, without a scheme and a port',
  );

const commonHttp = {
  host: hostSchema.default('127.0.0.1').describe('Address to serve MCP over HTTP on'),
  allowed_hosts: listSchema(hostNameSchema)
    .default([])
    .describe(
      'Names by which this peer may be called (Host), beside loopback, its own address and `http.host`: what a proxy in front of it is called, say',
    ),
  cors_origins: listSchema(originSchema)
    .optional()
    .describe(
      'Origins whose pages in a browser may use this peer, beside its own, e.g. https://app.example (default: those of this machine and of `http.allowed_hosts`)',
    ),
  trusted_proxies: listSchema(proxySchema)
    .default([])
    .describe(
      'Proxies that are believed when they say who asks (X-Forwarded-For, -Proto, -Host): addresses or networks such as 10.0.0.0/8',
    ),
};

const fileSchema = z.string().min(1, 'must not be empty');
const dataDirSchema = z.string().min(1, 'must not be empty');
const nameSchema = z.string().regex(/^[^\p{C}]{1,64}$/u, 'must be 1 to 64 printable characters');

/** The mesh file, and what flags and environment say: everything may be missing. */
export const settingsSchema = z.strictObject({
  ...common,
  data_dir: dataDirSchema
    .optional()
    .describe("This peer's own folder (default: the first free one of ~/.flowmesh/<mesh>/peer-1, peer-2, …)"),
  name: nameSchema.optional().describe('Name shown to people (default: host name and data folder)'),
  listen: z
    .array(addressSchema)
    .min(1, 'must have at least one address')
    .optional()
    .describe(
      `libp2p addresses to listen on (default: the bootstrap port when it is free here, else any free port; in a secured mesh port ${DEFAULT_P2P_PORT} or the next free one of every network)`,
    ),
  http: z
    .strictObject({
      ...commonHttp,
      port: portSchema
        .optional()
        .describe(`Port for MCP over HTTP; 0 is any free one (default: ${DEFAULT_HTTP_PORT} or the next free one)`),
      tls: z
        .strictObject({
          cert: fileSchema
            .optional()
            .describe('PEM file of the certificate with which HTTPS is served, read again when it changes'),
          key: fileSchema.optional().describe('PEM file of its key, without a passphrase'),
        })
        .optional(),
    })
    .nullable()
    .prefault({})
    .describe('Serve no MCP over HTTP; the command line needs it to talk to this peer'),
});
export type Settings = z.output<typeof settingsSchema>;
export type SettingsInput = z.input<typeof settingsSchema>;

/** What `startPeer` gets. Tests may parse `{ data_dir }` and get any free port for everything. */
export const configSchema = z.strictObject({
  ...common,
  data_dir: dataDirSchema.transform((path) => resolve(path)),
  name: nameSchema.default('peer'),
  listen: z.array(addressSchema).min(1).default([DEFAULT_LISTEN]),
  http: z
    .strictObject({
      ...commonHttp,
      port: portSchema.default(0),
      tls: z.strictObject({ cert: fileSchema, key: fileSchema }).optional(),
    })
    .nullable()
    .prefault({}),
});
export type Config = z.output<typeof configSchema>;

/** The address and port of a TCP multiaddr; undefined for other transports. `host` is an IP or a DNS name. */
export function tcpOf(address: string): { family: 'ip4' | 'ip6' | 'dns'; host: string; port: number } | undefined {
  const [, protocol, host, transport, port] = address.split('/');
  if (transport !== 'tcp' || host === undefined || port === undefined) return undefined;
  if (protocol === 'ip4' || protocol === 'ip6') return { family: protocol, host, port: Number(port) };
  return protocol?.startsWith('dns') ? { family: 'dns', host, port: Number(port) } : undefined;
}

/** True for addresses that only this machine can reach. */
export function isLoopback(host: string): boolean {
  if (isIPv6(host)) return host === '::1' || host === '0:0:0:0:0:0:0:1';
  return host === 'localhost' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

/** As a browser writes it; of a program with a scheme of its own, too: `vscode-webview://…`. */
function isOrigin(text: string): boolean {
  if (!/^[a-z][a-z0-9+.-]*:\/\/[^/?#\s*]+$/i.test(text) || !URL.canParse(text)) return false;
  const { origin } = new URL(text);
  return origin === 'null' || origin === text.toLowerCase();
}

function multiaddrProblem(value: string): string | null {
  try {
    multiaddr(value);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return `is not a multiaddr such as /ip4/127.0.0.1/tcp/7600 (${why})`;
  }
  return tcpOf(value) === undefined ? 'must be a TCP multiaddr such as /ip4/127.0.0.1/tcp/7600' : null;
}
