/**
 * `npm run chaos -- --peers 7 --workflows 2000 --tasks 2000 --kill-every 5s`: exits 1 when a promise was broken.
 *
 * Options: --duration 300s (the disturbances; the load is spread over it), --seed N (of the choices, not of the timing
 * of real processes; default random), --faults kill,pause,cut,isolate (default all), --secured (the peers are members of
 * a secured mesh), --json FILE.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { runChaos } from './chaos.ts';
import { FAULTS } from './disturbances.ts';
import { renderReport } from './table.ts';

const { values } = parseArgs({
  options: {
    peers: { type: 'string', default: '7' },
    workflows: { type: 'string', default: '2000' },
    tasks: { type: 'string', default: '2000' },
    'kill-every': { type: 'string', default: '5s' },
    duration: { type: 'string', default: '300s' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    faults: { type: 'string', default: FAULTS.join(',') },
    secured: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
});

/** `500ms`, `5s` or `2m`. */
function ms(text: string): number {
  const [, count, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text) ?? [];
  if (unit === undefined) throw new Error(`"${text}" is no duration such as 500ms, 5s or 2m`);
  return Number(count) * { ms: 1, s: 1_000, m: 60_000 }[unit as 'ms' | 's' | 'm'];
}

const wanted = values.faults.split(',');
const unknown = wanted.filter((fault) => !FAULTS.some((each) => each === fault));
if (unknown.length > 0) throw new Error(`no such fault: ${unknown.join(', ')}; there are ${FAULTS.join(', ')}`);

const started = performance.now();
console.log(`seed ${values.seed}`);
const report = await runChaos({
  peers: Number(values.peers),
  workflows: Number(values.workflows),
  tasks: Number(values.tasks),
  everyMs: ms(values['kill-every']),
  durationMs: ms(values.duration),
  seed: Number(values.seed),
  secured: values.secured,
  faults: FAULTS.filter((fault) => wanted.includes(fault)),
  note: (line) => console.log(`${((performance.now() - started) / 1_000).toFixed(1).padStart(6)} s  ${line}`),
});
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(report, null, 2)}\n`);
console.log(renderReport(report));
process.exitCode = report.broken.length === 0 ? 0 : 1;
