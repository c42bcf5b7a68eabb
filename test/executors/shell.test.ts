/** `shell` with real commands: policy, output, failure, and the end of the whole process tree. */
import { mkdtemp, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { FlowmeshError, JsonObject } from '../../dag/errors.ts';
import { OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import { PRINTED_LINES_PER_INTERVAL, STDERR_KEPT_BYTES } from '../../node/executors/limits.ts';
import { runShell } from '../../node/executors/shell.ts';
import { WorkEnvironment } from '../../node/processes/environment.ts';
import { CHILD_INTERVAL_MS } from '../../node/processes/limits.ts';
import { LOG_LINE_CHARS_MAX, LOG_LINES_MAX } from '../../scheduler/limits.ts';
import { isRunning, waitUntilGone } from './processes.ts';
import { RecordedIO, requestOf } from './recorded-io.ts';

const ANY = ['*'];

let folder: string;
beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'flowmesh-shell-')));
});
afterAll(() => rm(folder, { recursive: true }));

/** What a failed test would leave running. */
let started: RecordedIO[] = [];
afterEach(() => {
  for (const io of started) io.abort(true);
  started = [];
});

interface RunOptions {
  io?: RecordedIO;
  allow?: string[];
  step_env?: string[];
  pass_env?: string[];
}
const run = (
  payload: JsonObject,
  { io = new RecordedIO(), allow = ANY, step_env = [], pass_env = [] }: RunOptions = {},
) => runShell(requestOf('shell', payload), io, { allow, step_env }, new WorkEnvironment(folder, pass_env));
const script = (text: string, more: JsonObject = {}) => ({ command: ['sh', '-c', text], ...more });
const failureOf = (payload: JsonObject, options?: RunOptions) =>
  run(payload, options).then(
    (output) => {
      throw new Error(`an output: ${JSON.stringify(output)}`);
    },
    (error: FlowmeshError) => error,
  );

describe('a command', () => {
  it('gives exit code, stdout and stderr, and logs its lines', async () => {
    const io = new RecordedIO();
    expect(await run(script('echo one; echo two; echo three >&2'), { io })).toEqual({
      exit_code: 0,
      stdout: 'one\ntwo',
      stderr: 'three',
    });
    expect(io.lines.filter(([stream]) => stream === 'stdout')).toEqual([
      ['stdout', 'one'],
      ['stdout', 'two'],
    ]);
    expect(io.lines).toContainEqual(['stderr', 'three']);
  });

  it('is never read by a shell', async () => {
    expect(await run({ command: ['printf', '%s|', '$HOME', '; ls', '*', 7, true] })).toMatchObject({
      stdout: '$HOME|; ls|*|7|true|',
    });
  });

  it('finds its idempotency key and attempt, and of the peer only what it may have', async () => {
    vi.stubEnv('FLOWMESH_SECRET', 'hidden');
    vi.stubEnv('CLOUD_KEY', 'hidden');
    vi.stubEnv('CLOUD_REGION', 'shown');
    const { stdout } = (await run(script('env', { env: { MINE: 5, FLOWMESH_ATTEMPT: 'forged' }, parse: 'lines' }), {
      pass_env: ['CLOUD_REGION'],
    })) as { stdout: string[] };
    vi.unstubAllEnvs();
    expect(stdout).toEqual(
      expect.arrayContaining([
        'FLOWMESH_TASK_UID=w1/step/0',
        'FLOWMESH_ATTEMPT=3',
        'MINE=5',
        'CLOUD_REGION=shown',
        `HOME=${process.env['HOME']}`,
      ]),
    );
    expect(stdout.join('\n')).not.toContain('hidden');
  });

  it('inherits nothing that this process has open', async () => {
    // `ls` opens one itself, to read the list.
    const { stdout } = (await run({ command: ['ls', '-l', '/proc/self/fd'], parse: 'lines' })) as { stdout: string[] };
    const open = stdout.flatMap((line) => / (\d+) -> (.*)$/.exec(line)?.slice(1, 3).join(' ') ?? []);
    const beyond = open.filter((each) => Number(each.split(' ')[0]) > 2 && !/ \/proc\/\d+\/fd$/.test(each));
    for (const each of beyond) expect(each).toMatch(/ \/dev\/null$/);
  });

  it('runs in cwd and reads stdin', async () => {
    expect(await run({ command: ['pwd'], cwd: folder })).toMatchObject({ stdout: folder });
    expect(await run({ command: ['cat'], stdin: 'a\nb\n' })).toMatchObject({ stdout: 'a\nb' });
    expect(await run({ command: ['cat'] })).toMatchObject({ stdout: '' });
  });

  it('may leave a large stdin unread', async () => {
    expect(await run({ command: ['true'], stdin: 'x'.repeat(1_000_000) })).toMatchObject({ exit_code: 0 });
  });

  it.each([
    ['json', '{"a": [1, 2]}\n', { a: [1, 2] }],
    ['lines', 'a\r\n\nb\n', ['a', '', 'b']],
    ['lines', '', []],
    ['text', 'a\n\n', 'a\n'],
  ])('gives stdout as %s', async (parse, stdin, stdout) => {
    expect(await run({ command: ['cat'], stdin, parse })).toMatchObject({ stdout });
  });

  it('does not change an integer in silence: it is an error with its place, or a string', async () => {
    const command = ['echo', '{"user":{"id":3544790567247868102}}'];
    expect(await failureOf({ command, parse: 'json' })).toMatchObject({
      code: 'INVALID_OUTPUT',
      retryable: false,
      message: expect.stringMatching(/user\.id is 3544790567247868102.*big_numbers: string/),
      details: { place: 'user.id' },
    });
    const kept = await run({ command, parse: 'json', big_numbers: 'string' });
    expect(kept).toMatchObject({ stdout: { user: { id: '3544790567247868102' } } });
  });

  it.each([
    ['[1e400]', 'INVALID_OUTPUT', /\[0\] is Infinity/],
    ['{"a":{"__proto__":{"b":1}}}', 'INVALID_OUTPUT', /a\.__proto__ is a name/],
    ['['.repeat(100_000), 'LIMIT_EXCEEDED', /nested too deep/],
  ])('refuses JSON that cannot be kept: %.30s', async (stdin, code, message) => {
    expect(await failureOf({ command: ['cat'], stdin, parse: 'json' })).toMatchObject({
      code,
      retryable: false,
      message: expect.stringMatching(message),
    });
  });

  it('fails for good when it was to write JSON and did not', async () => {
    expect(await failureOf({ command: ['echo', '{oops'], parse: 'json' })).toMatchObject({
      code: 'INVALID_OUTPUT',
      retryable: false,
    });
  });

  it('fails, to be retried, with its exit code and the end of stderr', async () => {
    expect(await failureOf(script('for n in $(seq 100); do echo "problem $n" >&2; done; exit 3'))).toMatchObject({
      code: 'EXIT_CODE',
      retryable: true,
      message: expect.stringMatching(/ended with exit code 3: problem 91\n(.*\n)*problem 100$/),
      details: { exit_code: 3, signal: null },
    });
    expect(await failureOf(script('kill -9 $$'))).toMatchObject({
      code: 'EXIT_CODE',
      details: { exit_code: null, signal: 'SIGKILL' },
    });
  });

  it('fails for good when there is no such command or folder', async () => {
    expect(await failureOf({ command: ['no-such-command'] })).toMatchObject({
      code: 'COMMAND_NOT_FOUND',
      retryable: false,
      message: expect.stringContaining('no-such-command'),
    });
    expect(await failureOf({ command: ['/no/such/command'] })).toMatchObject({ code: 'COMMAND_NOT_FOUND' });
    expect(await failureOf({ command: ['ls'], cwd: join(folder, 'missing') })).toMatchObject({
      code: 'INVALID_PAYLOAD',
      message: expect.stringContaining('missing'),
    });
  });

  it.each([
    [{}, /command is missing/],
    [{ command: 'ls -l' }, /command must be a list/],
    [{ command: [] }, /must name a command/],
    [{ command: ['ls'], arse: 'json' }, /arse is not a known field \(did you mean "parse"\?\)/],
    [{ command: ['ls'], parse: 'jsom' }, /did you mean "json"/],
    [{ command: ['ls'], env: { 'A=B': 'c' } }, /env\["A=B"\] is not the name of a variable/],
    [{ command: ['ls', 'a\0b'] }, /NUL/],
  ])('is refused when its inputs are wrong: %j', async (payload, message) => {
    const error = await failureOf(payload as JsonObject);
    expect(error).toMatchObject({ code: 'INVALID_PAYLOAD', retryable: false });
    expect(error.message).toMatch(message);
  });
});

describe('the policy', () => {
  it('runs what is allowed by name or by its absolute path', async () => {
    expect(await run({ command: ['echo', 'x'] }, { allow: ['echo'] })).toMatchObject({ stdout: 'x' });
    expect(await run({ command: ['/bin/echo', 'x'] }, { allow: ['/bin/echo'] })).toMatchObject({ stdout: 'x' });
  });

  it.each([
    [[], 'echo', /runs no shell commands, not "echo"; start it with --allow-shell echo .*shell\.allow/],
    [['wc', 'ls'], 'echo', /runs only wc, ls, not "echo"/],
    [['echo'], '/bin/echo', /not "\/bin\/echo"/],
    [['./echo'], './echo', /not "\.\/echo"/],
  ])('with %j refuses %s and says what would allow it', async (allow, command, message) => {
    const error = await failureOf({ command: [command, 'x'] }, { allow });
    expect(error).toMatchObject({ code: 'ACTION_NOT_ALLOWED', retryable: false });
    expect(error.message).toMatch(message);
  });

  it.each(['PATH', 'LD_PRELOAD', 'BASH_FUNC_echo%%', 'TAR_OPTIONS', 'LESSOPEN', 'HOME', 'ANYTHING'])(
    'does not let a step change what an allowed command is through %s',
    async (name) => {
      await symlink('/bin/ls', join(folder, `echo-${name}`));
      const payload = { command: ['echo', 'x'], env: { [name]: folder } };
      expect(await failureOf(payload, { allow: ['echo'] })).toMatchObject({
        code: 'ACTION_NOT_ALLOWED',
        message: expect.stringContaining(`env sets ${name}, but steps may set no variables here`),
      });
      expect(await run(payload, { allow: ANY })).toMatchObject({ stdout: 'x' });
    },
  );

  it('lets a step set the variables that it names, and says how others may be set', async () => {
    const options = { allow: ['printenv'], step_env: ['TARGET', 'APP_*'] };
    const payload = { command: ['printenv', 'TARGET', 'APP_MODE'], env: { TARGET: 'a', APP_MODE: 'b' } };
    expect(await run(payload, options)).toMatchObject({ stdout: 'a\nb' });
    expect(await failureOf({ ...payload, env: { TARGET: 'a', MAKEFLAGS: '-n' } }, options)).toMatchObject({
      code: 'ACTION_NOT_ALLOWED',
      retryable: false,
      message: expect.stringMatching(
        /env sets MAKEFLAGS, .*only TARGET, APP_\*.*--step-env MAKEFLAGS .*shell\.step_env/,
      ),
      details: { command: 'printenv', variables: ['MAKEFLAGS'] },
    });
  });
});

describe('the output', () => {
  it('may be as large as the limit, and not larger', async () => {
    const { stdout } = (await run({ command: ['head', '-c', OUTPUT_BYTES_MAX, '/dev/zero'] })) as { stdout: string };
    expect(stdout).toHaveLength(OUTPUT_BYTES_MAX);
    expect(await failureOf({ command: ['head', '-c', OUTPUT_BYTES_MAX + 1, '/dev/zero'] })).toMatchObject({
      code: 'OUTPUT_TOO_LARGE',
      retryable: false,
    });
  });

  it('ends a command that writes for ever', async () => {
    const io = new RecordedIO();
    expect(await failureOf(script('echo pid $$; sleep 0.05; exec yes'), { io })).toMatchObject({
      code: 'OUTPUT_TOO_LARGE',
    });
    await waitUntilGone([pidIn(await io.logged('pid '))]);
  });

  it('may be as much on stderr as the command likes: its end is kept, with how much was dropped', async () => {
    const noisy = 'yes "progress line" | head -c 5000000 >&2; echo the end >&2';
    const output = (await run(script(`${noisy}; echo RESULT`))) as JsonObject;
    expect(output).toMatchObject({ exit_code: 0, stdout: 'RESULT', stderr: expect.stringMatching(/the end$/) });
    expect(output['stderr']).toHaveLength(STDERR_KEPT_BYTES - 1);
    expect(output['stderr_dropped_bytes']).toBe(5_000_000 + 'the end\n'.length - STDERR_KEPT_BYTES);
    expect(await failureOf(script(`head -c 9000000 /dev/zero >&2; echo broken >&2; exit 3`))).toMatchObject({
      code: 'EXIT_CODE',
      retryable: true,
      details: { exit_code: 3, stderr: expect.stringMatching(/broken$/) },
    });
  });

  it('is read at a walk: a command that floods stderr waits, and leaves the loop its time', async () => {
    const begun = performance.now();
    const output = (await run(script('yes >&2 & sleep 1; kill $!'))) as JsonObject;
    const intervals = (performance.now() - begun) / CHILD_INTERVAL_MS + 2;
    const linesRead = (Number(output['stderr_dropped_bytes']) + STDERR_KEPT_BYTES) / 'y\n'.length;
    expect(linesRead).toBeGreaterThan(PRINTED_LINES_PER_INTERVAL);
    // What is over the measure of an interval has come in one piece.
    expect(linesRead / intervals).toBeLessThan(2 * PRINTED_LINES_PER_INTERVAL);
  });

  it('keeps less of stderr beside a large stdout, so that both fit', async () => {
    const length = OUTPUT_BYTES_MAX - 2_000;
    const output = await run(script(`head -c ${length} /dev/zero | tr '\\0' x; yes ä | head -c 9000 >&2`));
    expect(Buffer.byteLength(JSON.stringify(output))).toBeLessThanOrEqual(OUTPUT_BYTES_MAX);
    expect(output).toMatchObject({ stderr: expect.stringMatching(/^[ä\n]{100,}$/) });
  });

  it('is logged in bounded lines, the last ones of many', async () => {
    const io = new RecordedIO();
    await run(script(`head -c 10000 /dev/zero | tr '\\0' x; echo; sleep 0.05; seq 200000; echo ä`), { io });
    expect(io.lines[0]![1]).toHaveLength(LOG_LINE_CHARS_MAX);
    expect(io.lines.at(-1)![1]).toBe('ä');
    expect(io.lines.at(-2)![1]).toBe('200000');
    expect(io.lines.some(([, line]) => /^… \(\d+ lines left out\)$/.test(line))).toBe(true);
    expect(io.lines.length).toBeGreaterThanOrEqual(LOG_LINES_MAX);
  });
});

describe('the end of the process tree', () => {
  const TREE = "sh -c 'sleep 300 & echo grandchild $!; wait' & echo child $$; wait";
  /** The trap is inherited: nobody in this tree heeds SIGTERM. */
  const STUBBORN_TREE = `trap "" TERM; ${TREE}; while :; do sleep 300; done`;

  const startTree = async (text: string) => {
    const io = new RecordedIO();
    started.push(io);
    const ended = failureOf(script(text), { io });
    const pids = [pidIn(await io.logged('child ')), pidIn(await io.logged('grandchild '))];
    for (const pid of pids) expect(await isRunning(pid)).toBe(true);
    return { io, ended, pids };
  };

  it.each([
    ['heeds SIGTERM', TREE, false, 0],
    ['ignores SIGTERM', STUBBORN_TREE, false, 1_400],
    ['ignores SIGTERM, by force', STUBBORN_TREE, true, 0],
  ])('comes after an abort, with every grandchild: %s', async (_name, text, force, least) => {
    const { io, ended, pids } = await startTree(text);
    io.abort(force);
    const took = await waitUntilGone(pids);
    expect(took).toBeGreaterThanOrEqual(least);
    expect(await ended).toMatchObject({ code: 'ABORTED' });
  });

  it('comes for a grandchild that ignores SIGTERM when its parent does not', async () => {
    const { io, ended, pids } = await startTree(
      `sh -c 'trap "" TERM; echo grandchild $$; while :; do sleep 300; done' & echo child $$; wait`,
    );
    io.abort(false);
    await waitUntilGone(pids);
    expect(await ended).toMatchObject({ code: 'ABORTED' });
  });

  it('comes with the end of the command for what it left in the background', async () => {
    const io = new RecordedIO();
    expect(await run(script('sleep 300 & echo left $!'), { io })).toMatchObject({ exit_code: 0 });
    await waitUntilGone([pidIn(await io.logged('left '))]);
    const silent = new RecordedIO();
    await run(script('sleep 300 >/dev/null 2>&1 & echo left $!'), { io: silent });
    await waitUntilGone([pidIn(await silent.logged('left '))]);
  });

  it('waits a moment for output that comes after the end of the command', async () => {
    expect(await run(script('(sleep 0.05; echo late) & echo early'))).toMatchObject({ stdout: 'early\nlate' });
  });

  const DETOURS: [string, string][] = [
    ['a group of its own', `timeout 300 sh -c 'echo away $$; sleep 300'`],
    ['job control', `set -m; sh -c 'echo away $$; sleep 300' & wait`],
    ['a session of its own', `setsid sh -c 'echo away $$; sleep 300' & wait`],
    ['a daemon', `setsid sh -c 'sh -c "echo away \\$\\$; sleep 300" & exit 0' & wait; sleep 300`],
    ['one that heeds nothing', `setsid sh -c 'trap "" TERM; echo away $$; while :; do sleep 300; done' & wait`],
  ];

  it.each(DETOURS)('comes after an abort for what took a detour: %s', async (_name, text) => {
    const io = new RecordedIO();
    started.push(io);
    const ended = failureOf(script(text), { io });
    const pid = pidIn(await io.logged('away '));
    io.abort(false);
    expect(await ended).toMatchObject({ code: 'ABORTED' });
    expect(await isRunning(pid)).toBe(false);
  });

  it('comes with the end of the command for what took a detour, with the pipes open or closed', async () => {
    for (const redirect of ['', '>/dev/null 2>&1 </dev/null']) {
      const io = new RecordedIO();
      const text = `setsid sh -c 'echo away $$ >${folder}/away; exec sleep 300' ${redirect} & while ! [ -s ${folder}/away ]; do sleep 0.01; done; cat ${folder}/away; rm ${folder}/away`;
      expect(await run(script(text), { io })).toMatchObject({ exit_code: 0 });
      expect(await isRunning(pidIn(await io.logged('away ')))).toBe(false);
    }
  });

  it('leaves alone what it did not start: another attempt of the same task', async () => {
    const [first, second] = [new RecordedIO(), new RecordedIO()];
    started.push(first, second);
    const others = failureOf(script(`setsid sh -c 'echo away $$; sleep 300' & wait`), { io: second });
    const ended = failureOf(script('echo here $$; sleep 300'), { io: first });
    const pid = pidIn(await second.logged('away '));
    await first.logged('here ');
    first.abort(true);
    expect(await ended).toMatchObject({ code: 'ABORTED' });
    expect(await isRunning(pid)).toBe(true);
    second.abort(true);
    expect(await others).toMatchObject({ code: 'ABORTED' });
  });
});

function pidIn(line: string): number {
  return Number(line.split(' ')[1]);
}
