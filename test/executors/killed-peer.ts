/**
 * A peer's executors and evaluator at work on what never ends; the test kills this process and looks what stays.
 * `argv`: the data folder.
 */
import { join } from 'node:path';
import { createExecutors } from '../../node/executors/executors.ts';
import { createEvaluator } from '../../node/expressions/evaluator.ts';
import { quietLog, RecordedIO, requestOf } from './recorded-io.ts';

const executors = await createExecutors(
  {
    data_dir: process.argv[2]!,
    pass_env: [],
    shell: { allow: ['*'], step_env: [] },
    http_action: { private: false, allow: [] },
    functions: [join(import.meta.dirname, 'handlers.ts')],
  },
  quietLog,
);
const evaluator = createEvaluator({ timeout_ms: 600_000 });
await evaluator.evaluate([{ expression: '1', scope: {} }]);
const io = new RecordedIO();
void executors.run(requestOf('fn:ignores', {}), io);
void evaluator.evaluate([{ expression: '$match("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", /(a+)+$/)', scope: {} }]);
await io.logged('waiting');
const shell = new RecordedIO();
const command = ['sh', '-c', "setsid sh -c 'echo away $$; exec sleep 300' & echo child $$; wait"];
void executors.run(requestOf('shell', { command }), shell);
const lines = await Promise.all(['away ', 'child '].map((line) => shell.logged(line)));
process.send!({ commands: lines.map((line) => Number(line.split(' ')[1])) });
