/** The tab key, in the shells themselves. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../e2e/temporary-folder.ts';
import { PROGRAM } from '../harness/program.ts';
import { runCli } from './run-cli.ts';

const complete = async (...words: string[]) => {
  const { exitCode, stdout, stderr } = await runCli(['complete', '--', ...words]);
  expect(exitCode, stderr).toBe(0);
  return stdout === '' ? [] : stdout.split('\n').map((line) => line.split('\t')[0]);
};

describe('what is offered', () => {
  it.each([
    [['wor'], ['workflow', 'worker']],
    [
      ['workflow', 's'],
      ['submit', 'status'],
    ],
    [['workflow', 'submit', '--wor'], ['--workflow-id']],
    [
      ['task', 'list', '--status-filter', 'c'],
      ['completed', 'cancelled'],
    ],
    [['node', 'start', '--allow-s'], ['--allow-shell']],
    [['completion', 'z'], ['zsh']],
    [['help', 'ta'], ['task']],
    // Files: the shell knows them.
    [['workflow', 'submit', ''], []],
    [['workflow', 'submit', '--input', ''], []],
    [['no-such-thing', ''], []],
  ])('after %j: %j', async (words, expected) => {
    expect(await complete(...words)).toEqual(expected);
  });
});

it('a shell that has no script is named with those that have', async () => {
  const { exitCode, stderr } = await runCli(['completion', 'tcsh']);
  expect(exitCode).toBe(2);
  expect(stderr).toContain('bash, zsh, fish');
});

describe('the scripts', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  beforeAll(async () => {
    folder = await temporaryFolder();
    const program = join(folder.path, 'flowmesh');
    await writeFile(program, `#!/bin/sh\nexec "${process.execPath}" "${PROGRAM}" "$@"\n`);
    await chmod(program, 0o755);
  });
  afterAll(() => folder[Symbol.asyncDispose]());

  const isThere = (shell: string) => spawnSync(shell, ['--version']).error === undefined;
  const run = (shell: string, script: string) =>
    execFileSync(shell, ['-c', script], {
      encoding: 'utf8',
      cwd: folder.path,
      env: { PATH: `${folder.path}:${process.env['PATH']}`, HOME: folder.path },
    });

  it('of bash completes a command, and leaves what it does not know to bash', () => {
    const at = (words: string, index: number) =>
      `COMP_WORDS=(${words}); COMP_CWORD=${index}; _flowmesh; echo "\${COMPREPLY[@]}"`;
    const script = `eval "$(flowmesh completion bash)"; ${at('flowmesh workflow s', 2)}; ${at("flowmesh '$(echo ran >&2)' ''", 2)}; complete -p flowmesh`;
    expect(run('bash', script).split('\n').slice(0, 3)).toEqual([
      'submit status',
      '',
      'complete -o default -F _flowmesh flowmesh',
    ]);
  });

  it.skipIf(!isThere('fish'))('of fish completes a command (skipped where there is no fish)', () => {
    const script = 'flowmesh completion fish | source; complete -C "flowmesh workflow s"';
    expect(run('fish', script).trim().split('\n').sort()).toEqual([
      'status\tStatus of a workflow',
      'submit\tSubmit a workflow',
    ]);
  });

  it.skipIf(!isThere('zsh'))('of zsh is one that zsh takes (skipped where there is no zsh)', () => {
    const script = 'autoload -Uz compinit; compinit -u; eval "$(flowmesh completion zsh)"; echo $_comps[flowmesh]';
    expect(run('zsh', script).trim()).toBe('_flowmesh');
  });
});
