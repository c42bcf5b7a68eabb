/** `flowmesh node start`: one peer in the foreground, until a signal or, with --stdio, the end of stdin. */
import { type Command, Option } from 'commander';
import { didYouMean } from '../../dag/nearest.ts';
import { StoppedError } from '../../scheduler/errors.ts';
import type { Log } from '../../scheduler/ports.ts';
import { ANYONE } from '../auth/principal.ts';
import { describeOption, knownVariables, OPTIONS } from '../config/options.ts';
import { resolveSettings, type Sources } from '../config/sources.ts';
import { flowmeshHome } from '../data-folder.ts';
import { createLog, LOG_IS_READABLE } from '../log.ts';
import type { StdioServer } from '../mcp/stdio.ts';
import { packageVersion } from '../package-file.ts';
import type { RunningPeer } from '../peer.ts';
import { paint } from './cells.ts';
import { EXIT } from './exit.ts';
import { readMeshFile } from './mesh-file.ts';
import { type Place, takePlace } from './place.ts';
import { onStopSignal } from './signals.ts';
import { turnedOff } from './wording.ts';

/** How long a peer may take to stop before the process ends anyway. */
const STOP_WAIT_MS = 10_000;

export function addStartCommand(group: Command, run: (sources: Sources) => Promise<void>): void {
  const command = group
    .command('start')
    .summary('Start a peer')
    .description('Starts a peer here. Every option can also be set in the environment or in the mesh file.');
  addStartOptions(command);
  command.action(async () => run(await sourcesOf(command)));
}

/** @param without settings that the command itself decides, by their path */
export function addStartOptions(command: Command, without: readonly string[] = []): void {
  command.addOption(
    new Option(
      '--bootstrap [file]',
      'Join the mesh that this file names; without a file ./bootstrap.json, or else the one that comes with flowmesh',
    ).helpGroup('Mesh:'),
  );
  for (const each of OPTIONS) {
    if (without.includes(each.path)) continue;
    const text = `${describeOption(each.path)} [${each.env}]`;
    const negated = each.flag.startsWith('--no-') && each.path !== 'http' ? turnedOff(text) : text;
    command.addOption(new Option(each.flag, negated).helpGroup(`${each.group}:`));
  }
}

/** What was given to a command with `addStartOptions`. */
export async function sourcesOf(command: Command): Promise<Sources> {
  const bootstrap = command.opts<{ bootstrap?: string | boolean }>().bootstrap;
  const flags: Sources['flags'] = {};
  for (const each of OPTIONS) {
    const attribute = new Option(each.flag).attributeName();
    if (command.getOptionValueSource(attribute) === 'cli') flags[each.path] = command.getOptionValue(attribute);
  }
  const cwd = process.cwd();
  return { flags, env: process.env, file: await readMeshFile(bootstrap, cwd), cwd };
}

/** @returns the exit code, after the peer has stopped */
export async function startNode(sources: Sources): Promise<number> {
  const settings = resolveSettings(sources);
  const place = await takePlace(settings, flowmeshHome(sources.env));
  const { config, folder } = place;
  const log = createLog({ level: config.log_level, fields: { name: config.name } });
  if (folder.openToOthers) {
    const advice = `others than this user can look into the data folder ${folder.path}; chmod 700 it, or give another --data-dir`;
    log.warn({ data_dir: folder.path }, advice);
  }
  warnOfUnknownVariables(sources.env, (message) => log.warn({}, message));
  const base = {
    pid: process.pid,
    mesh: config.mesh,
    name: config.name,
    version: packageVersion(),
    started_at: new Date().toISOString(),
  };

  // From here on a signal ends the peer in order, also one that is still starting.
  const stopped = Promise.withResolvers<string>();
  const hurried = Promise.withResolvers<string>();
  // While it drains, one more signal ends the drain and not the process.
  let mayHurry = false;
  const restore = onStopSignal((signal, earlier) => {
    if (earlier > 0 && !mayHurry) process.exit(EXIT.failed);
    if (earlier > 0) hurried.resolve(signal);
    mayHurry &&= earlier === 0;
    stopped.resolve(signal);
  });
  const starting = Promise.withResolvers<RunningPeer>();
  starting.promise.catch(() => {
    // Whoever waits for it has a copy of its own; where nobody does, the error itself is thrown below.
  });
  let stdio: StdioServer | undefined;
  try {
    await folder.record({ ...base, peer_id: null, http_url: null, addresses: [], tls_cert: null, admin_key: null });
    if (config.stdio) {
      stdio = await serveEarly(starting.promise, base, config.auth !== null, log);
      void stdio.closed.then(() => stopped.resolve('stdin closed'));
    }
    const [{ startPeer }, { yieldToMesh }] = await Promise.all([
      import('../peer.ts'),
      import('../runtimes/priority.ts'),
    ]);
    const peer = await Promise.race([startPeer(config, log), stopped.promise]);
    if (typeof peer === 'string') {
      // Nothing was accepted yet, and a client that starts a server does not wait long for its end.
      log.info({ why: peer }, 'stopping before the peer has started');
      starting.reject(new StoppedError());
      return EXIT.done;
    }
    starting.resolve(peer);
    if (config.runtime === 'dedicated') yieldToMesh(log);
    const { peer_id, http_url, addresses, admin_key } = peer;
    const tls_cert = config.http?.tls?.cert ?? null;
    await folder.record({ ...base, peer_id, http_url, addresses, tls_cert, admin_key });
    if (LOG_IS_READABLE) process.stderr.write(banner(peer, place));
    else log.info(factsOf(peer, place), 'ready');
    const end = await Promise.race([peer.failed, stopped.promise, peer.drainAsked]);
    const waitMs = drainMsOf(end, config.drain_timeout_ms);
    mayHurry = waitMs > 0;
    const hurry = typeof end === 'string' ? hurried.promise : Promise.race([hurried.promise, stopped.promise]);
    const failure = waitMs > 0 ? await drained(peer, waitMs, hurry, log) : end;
    mayHurry = false;
    if (failure instanceof Error) log.error({ err: failure }, 'the peer cannot go on');
    else log.info({ why: typeof end === 'string' ? end : 'drain' }, 'stopping');
    const code = await stopWithin(peer, STOP_WAIT_MS, log);
    return failure instanceof Error ? EXIT.failed : code;
  } catch (error) {
    starting.reject(error);
    await new Promise(setImmediate); // Calls that wait for the peer are told why there is none.
    throw error;
  } finally {
    await stdio?.close();
    await place.release();
    restore();
  }
}

/** A client that starts its server waits for the answer to `initialize`, not for the mesh: only calls need the peer. */
async function serveEarly(
  starting: Promise<RunningPeer>,
  info: { name: string; version: string },
  asksWhoCalls: boolean,
  log: Log,
): Promise<StdioServer> {
  const [{ serveStdio }, { LateRouter }, { localUser }] = await Promise.all([
    import('../mcp/stdio.ts'),
    import('../runtimes/late-router.ts'),
    import('../auth/local-user.ts'),
  ]);
  const ready = starting.then(({ router }) => router);
  // Who started this process is at the other end.
  const principal = asksWhoCalls ? localUser() : ANYONE;
  return await serveStdio({ router: new LateRouter(ready), ready, info, log, principal });
}

/** How long what runs may take to end, by why the peer stops: SIGTERM and `node drain` ask for that. */
function drainMsOf(end: Error | string | { waitMs: number | undefined }, defaultMs: number): number {
  if (end instanceof Error) return 0;
  if (typeof end === 'string') return end === 'SIGTERM' ? defaultMs : 0;
  return end.waitMs ?? defaultMs;
}

/** @returns why the peer cannot go on, if that ended the drain */
async function drained(
  peer: RunningPeer,
  waitMs: number,
  hurry: Promise<string>,
  log: Log,
): Promise<Error | undefined> {
  log.info({ timeout_ms: waitMs }, 'draining: no more tasks are taken; another signal hands back at once what runs');
  const drain = peer.drain(waitMs).catch((error: unknown) => {
    log.warn({ err: error }, 'it is not known what still runs: the peer stops');
    return undefined;
  });
  const outcome = await Promise.race([drain, hurry, peer.failed]);
  if (outcome instanceof Error) return outcome;
  if (typeof outcome === 'object') log.info({ ...outcome }, 'drained');
  return undefined;
}

/** @returns the exit code */
export async function stopWithin(peer: Pick<RunningPeer, 'stop'>, waitMs: number, log: Log): Promise<number> {
  const late = Promise.withResolvers<'late'>();
  const timer = setTimeout(() => late.resolve('late'), waitMs);
  const outcome = await Promise.race([peer.stop(), late.promise]);
  clearTimeout(timer);
  if (outcome !== 'late') return EXIT.done;
  log.error({}, `the peer did not stop within ${waitMs / 1_000} s and is ended; what it accepted is on disk`);
  return EXIT.failed;
}

/** What the banner says, as the fields of a line of the log. */
function factsOf(peer: RunningPeer, { config, folder }: Place): object {
  return {
    version: packageVersion(),
    mesh: config.mesh,
    peer_id: peer.peer_id,
    addresses: peer.addresses,
    data_dir: folder.path,
    mcp_url: peer.http_url === null ? null : `${peer.http_url}/mcp`,
    shell: shellSentence(config.shell.allow),
  };
}

function banner(peer: RunningPeer, { config, folder }: Place): string {
  const dim = (text: string) => paint('dim', text, process.stderr);
  const lines = [
    '',
    `${paint('bold', `flowmesh ${packageVersion()}`, process.stderr)}  peer ${paint('cyan', config.name, process.stderr)} of mesh "${config.mesh}"`,
    `  ${dim('peer id')}  ${peer.peer_id}`,
    ...peer.addresses.map((address, index) => `  ${dim(index === 0 ? 'listens' : '       ')}  ${address}`),
    `  ${dim('data   ')}  ${folder.path}`,
  ];
  if (peer.http_url !== null) {
    const url = `${peer.http_url}/mcp`;
    lines.push(
      `  ${dim('MCP    ')}  ${paint('cyan', url, process.stderr)}`,
      '',
      `  An MCP client connects with  { "mcpServers": { "flowmesh": { "type": "http", "url": "${url}" } } }`,
      '  Look around with             flowmesh peer list',
    );
  }
  lines.push(`  ${shellSentence(config.shell.allow)}`);
  return `${[...lines, '', ''].join('\n')}`;
}

function shellSentence(allow: string[]): string {
  if (allow.length === 0) return 'No shell steps run here: --allow-shell <command...> lets them.';
  if (allow.includes('*')) {
    return "Every command may run here, with all rights of this user, for anyone who reaches this mesh (--allow-shell '*').";
  }
  return `Shell steps may run ${allow.join(', ')} here, and no other command.`;
}

/** A mistyped variable would otherwise be obeyed by nobody and noticed by nobody. */
function warnOfUnknownVariables(env: Sources['env'], warn: (message: string) => void): void {
  const known = knownVariables();
  for (const name of Object.keys(env)) {
    if (!name.startsWith('FLOWMESH_') || known.has(name)) continue;
    const hint = didYouMean(name, [...known]);
    if (hint !== '') warn(`${name} is no setting of flowmesh${hint}`);
  }
}
