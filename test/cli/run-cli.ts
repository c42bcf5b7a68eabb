/** Runs the command line as a process of its own, cut off from the peers and settings of the machine. */
import { execa, type Options, type ResultPromise } from 'execa';
import { PROGRAM } from '../harness/program.ts';

/** A home in which no peer runs. */
const NOWHERE = '/nonexistent/flowmesh-home';

const OPTIONS = { reject: false, extendEnv: false, stripFinalNewline: true } satisfies Options;

export function startCli(
  args: string[],
  env: Record<string, string> = {},
  options: { cwd?: string; input?: string; node?: string } = {},
): ResultPromise<typeof OPTIONS> {
  const { node = process.execPath, ...rest } = options;
  return execa(node, [PROGRAM, ...args], {
    ...OPTIONS,
    ...(rest.input === undefined && { stdin: 'ignore' }),
    ...rest,
    env: { PATH: process.env['PATH']!, FLOWMESH_HOME: NOWHERE, NO_COLOR: '1', ...env },
  }) as unknown as ResultPromise<typeof OPTIONS>;
}

export async function runCli(
  ...args: Parameters<typeof startCli>
): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const { exitCode, stdout, stderr } = await startCli(...args);
  return { exitCode: exitCode ?? -1, stdout: String(stdout), stderr: String(stderr) };
}
