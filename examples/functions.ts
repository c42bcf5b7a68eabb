/**
 * Handlers for the `fn:<name>` steps of these examples. Each named export is one handler. A peer offers them when it
 * is started with them:
 *
 *   flowmesh node start --bootstrap --functions examples/functions.ts --allow-shell wc
 */

/** What a handler is handed beside the step's inputs. */
interface Context {
  /** The same for every attempt of one task. */
  uid: string;
  /** 1 for the first attempt. */
  attempt: number;
  progress(percent: number, message?: string): void;
  log(line: string): void;
  /** Aborted on cancel and timeout. */
  signal: AbortSignal;
}

/**
 * Adds up what `wc -w` printed for each file (`"  57 harbour.txt"`).
 *
 * @param inputs.lines one line of `wc -w` per file
 */
export function sum_words(inputs: { lines: string[] }, context: Context) {
  const files = inputs.lines.map((line, index) => {
    const [count = '', ...name] = line.trim().split(/\s+/);
    const words = Number(count);
    if (!Number.isInteger(words)) throw new Error(`"${line}" is not a line of wc -w`);
    context.progress(((index + 1) / inputs.lines.length) * 100, `counted ${name.join(' ')}`);
    return { file: name.join(' '), words };
  });
  const total = files.reduce((sum, file) => sum + file.words, 0);
  context.log(`${total} words in ${files.length} files`);
  const longest = files.reduce((best, file) => (file.words > best.words ? file : best));
  return { total, longest: longest.file, files };
}

/** Decides how carefully a release is to be rolled out: a new major version is a high risk. */
export function assess_release(inputs: { version: string; running: string }) {
  const [next = '', now = ''] = [inputs.version, inputs.running].map((version) => version.split('.')[0]);
  return { version: inputs.version, risk: next === now ? 'low' : 'high' };
}

/** Fails as often as it is told to, as a busy registry would, and then succeeds. */
export function upload_release(inputs: { version: string; busy_attempts: number }, context: Context) {
  if (context.attempt <= inputs.busy_attempts) {
    throw new Error(`the registry is busy (attempt ${context.attempt})`);
  }
  return { version: inputs.version, attempts: context.attempt };
}

/** Rolls a release out to a share of the servers, one after the other, and stops when it is cancelled. */
export async function roll_out(inputs: { version: string; servers: string[]; percent: number }, context: Context) {
  const count = Math.ceil((inputs.servers.length * inputs.percent) / 100);
  const done: string[] = [];
  for (const server of inputs.servers.slice(0, count)) {
    context.signal.throwIfAborted();
    context.log(`${server} now runs ${inputs.version}`);
    done.push(server);
    context.progress((done.length / count) * 100);
    // Lets the peer hear of a cancel between two servers.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return { version: inputs.version, servers: done };
}

/** Tells people about a release. There is nobody to tell where there is no channel. */
export function announce(inputs: { channel: string | null; text: string }) {
  if (inputs.channel === null) throw new Error('no channel is configured');
  return { channel: inputs.channel, text: inputs.text };
}
