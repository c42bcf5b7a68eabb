#!/usr/bin/env node
/**
 * The door of the program: plain JavaScript that every Node since 18 can read.
 *
 * On Node 24 and later it runs the command line. On an older one it starts the Node that npm installed with this
 * package, and is nothing but a pipe to it: streams are inherited, signals handed on, the exit code taken over.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import * as nodeModule from 'node:module';
import { basename, dirname, join, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';

const NODE_MAJOR_MIN = 24;
const HANDED_OVER = 'FLOWMESH_HANDED_OVER';
const FORWARDED_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'];
const EXIT_FAILED = 1;
/** Variables that are there to run programs, to write to terminals, and to set up a peer. */
const NEEDED =
  /^(PATH|HOME|USER|LOGNAME|SHELL|SHLVL|PWD|OLDPWD|HOSTNAME|_|LANG|LC_.*|TZ|TMPDIR|TMP|TEMP|TERM|COLORTERM|NO_COLOR|FORCE_COLOR|CI|NODE_(?!AUTH).*|UV_.*|LD_.*|DYLD_.*|SSL_CERT_.*|FLOWMESH_.*|PORT|MCP_PORT|HOST|TRANSPORT_TYPE|DEPLOYMENT_MODE|ENABLE_AUTH|ENABLE_CORS|API_KEY|JWT_SECRET|REDIS_URL|LOG_LEVEL)$/;

const self = fileURLToPath(import.meta.url);
const root = dirname(dirname(self));
const handedOver = process.env[HANDED_OVER] !== undefined;
// The processes that this one starts are not handed over.
delete process.env[HANDED_OVER];

if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR_MIN) {
  if (handedOver) endWithParent();
  else if (startsPeer()) leaveSecretsBehind();
  keepSmall();
  keepCompiled();
  await import(pathToFileURL(commandLine()).href).catch(explainMissing);
} else {
  const node = handedOver ? undefined : bundledNode();
  if (node === undefined) refuseOldNode();
  else handOver(node);
}

/** The build where there is one to use: Node strips no types below node_modules. */
function commandLine() {
  const built = join(root, 'dist', 'main.js');
  const source = join(root, 'node', 'cli', 'main.ts');
  const installed = root.split(sep).includes('node_modules');
  if (existsSync(built) && (installed || !existsSync(source))) return built;
  if (!installed) return source;
  refuse(
    `This copy of flowmesh in ${root} has not been built, and Node.js runs no TypeScript below node_modules.\n` +
      'Install the package that "npm pack" makes of a checkout, or run "npm install && npm run build" in this folder.\n',
  );
}

/** The sources need libraries that npm installs for development alone: not with `--omit=dev` or NODE_ENV=production. */
function explainMissing(error) {
  if (error?.code !== 'ERR_MODULE_NOT_FOUND' || !error.message.includes('Cannot find package')) throw error;
  refuse(
    `The libraries that flowmesh in ${root} uses are not installed. This command gets them:\n` +
      `  npm install --include=dev --prefix "${root}"\n`,
  );
}

/**
 * Reading the sources alone grows the space for new objects of each thread to its largest, and V8 gives it back only
 * under load: a fifth of an idle peer's memory. Latency and rate were measured to be the same without that growth.
 * Before the cache of compiled sources, which holds for one set of flags.
 */
function keepSmall() {
  setFlagsFromString('--semi-space-growth-factor=1');
}

/**
 * Halves the time to the first line, and spares each thread the compiler that strips types. Where npm keeps such
 * caches; a folder that cannot be written is passed over.
 */
function keepCompiled() {
  const inside = join(root, 'node_modules');
  const folder = join(existsSync(inside) ? inside : dirname(root), '.cache', 'flowmesh');
  nodeModule.enableCompileCache(folder);
  // Threads take it from the environment alone; what a user's steps run does not get it (executors/environment.ts).
  process.env.NODE_COMPILE_CACHE ??= folder;
}

/** From our own folder outwards, as packages are found. */
function bundledNode() {
  const file = process.platform === 'win32' ? 'node.exe' : 'node';
  for (let folder = root; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules', 'node', 'bin', file);
    if (existsSync(candidate)) return candidate;
    if (dirname(folder) === folder) return undefined;
  }
}

/** Where this copy is looked for a newer Node: in node_modules beside it. A global one takes no name from another. */
function refuseOldNode() {
  const beside = dirname(root);
  const folder = dirname(beside);
  const isGlobal = basename(folder) === 'lib' && !existsSync(join(folder, 'package.json'));
  const command =
    basename(beside) !== 'node_modules'
      ? `npm install --prefix "${root}"`
      : isGlobal
        ? `npm install --global --no-bin-links --prefix "${dirname(folder)}" node@${NODE_MAJOR_MIN}`
        : `npm install --prefix "${folder}" node@${NODE_MAJOR_MIN}`;
  refuse(
    `flowmesh needs Node.js ${NODE_MAJOR_MIN} or later, and this is ${process.version}. ` +
      `This command gets one for flowmesh alone:\n  ${command}\n`,
  );
}

/** @returns {never} */
function refuse(why) {
  process.stderr.write(why);
  process.exit(EXIT_FAILED);
}

function startsPeer() {
  return process.argv[2] === 'node' && process.argv[3] === 'start';
}

/**
 * Steps run as the user of the peer, so they can read the environment that it was started with (/proc/<pid>/environ),
 * and it may hold keys that are not meant for them: this process becomes the same one without those.
 */
function leaveSecretsBehind() {
  const own = ownEnvironment();
  // A process with a channel would lose it.
  if (process.execve === undefined || process.connected) return;
  if (Object.keys(own).length === Object.keys(process.env).length) return;
  process.execve(process.execPath, [process.execPath, ...process.execArgv, self, ...process.argv.slice(2)], own);
}

/** What a peer itself needs, and what it is told to pass on; all of it when its mesh file may say what that is. */
function ownEnvironment() {
  const args = process.argv.slice(4);
  if (meshFileText(args).includes('pass_env')) return process.env;
  const passed = [...wordsOf('--pass-env', args), process.env.FLOWMESH_PASS_ENV ?? ''].join(',').split(',');
  const isPassed = (name) =>
    passed.some((word) => {
      const wanted = word.trim();
      return wanted.endsWith('*') ? name.startsWith(wanted.slice(0, -1)) : name === wanted;
    });
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => NEEDED.test(name) || isPassed(name)));
}

function meshFileText(args) {
  const isGiven = args.some((arg) => /^--bootstrap(=|$)/.test(arg));
  try {
    return isGiven ? readFileSync(wordsOf('--bootstrap', args)[0] ?? 'bootstrap.json', 'utf8') : '';
  } catch {
    // The command line says what is wrong with it.
    return '';
  }
}

/** The words of an option: after it up to the next option, or behind its `=`. */
function wordsOf(option, args) {
  const words = [];
  let isOption = false;
  for (const arg of args) {
    if (arg.startsWith('-')) {
      isOption = arg === option;
      if (arg.startsWith(`${option}=`)) words.push(arg.slice(option.length + 1));
    } else if (isOption) words.push(arg);
  }
  return words;
}

/** The channel tells the child when this process is gone, also after kill -9. */
function handOver(node) {
  const child = spawn(node, [...process.execArgv, self, ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...(startsPeer() ? ownEnvironment() : process.env), [HANDED_OVER]: '1' },
  });
  const forward = (signal) => child.kill(signal);
  for (const signal of FORWARDED_SIGNALS) process.on(signal, forward);
  child.once('error', (error) => {
    process.stderr.write(`flowmesh cannot start ${node}: ${error.message}\n`);
    process.exit(EXIT_FAILED);
  });
  child.once('exit', (code, signal) => {
    for (const each of FORWARDED_SIGNALS) process.off(each, forward);
    if (signal === null) process.exit(code);
    else process.kill(process.pid, signal);
  });
}

function endWithParent() {
  if (!process.connected) return;
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  process.channel.unref();
}
