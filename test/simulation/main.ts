/** `npm run simulate`: many seeds, or one with its trace. Exits 1 when a promise was broken. */
import { parseArgs } from 'node:util';
import { simulate } from './simulate.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    seed: { type: 'string' },
    from: { type: 'string', default: '1' },
  },
});

if (values.seed !== undefined) {
  const result = await simulate(Number(values.seed), { trace: true });
  for (const line of result.trace ?? []) console.log(line);
  console.log(JSON.stringify({ ...result, trace: undefined }, null, 2));
  process.exitCode = result.failures.length === 0 ? 0 : 1;
} else {
  const started = performance.now();
  const from = Number(values.from);
  const count = Number(values.seeds);
  let accepted = 0;
  let crashes = 0;
  let reruns = 0;
  let broken = 0;
  for (let seed = from; seed < from + count; seed++) {
    const result = await simulate(seed);
    accepted += result.accepted;
    crashes += result.crashes;
    reruns += result.reruns;
    if (result.failures.length > 0) {
      broken++;
      console.log(`npm run simulate -- --seed ${seed}    # ${result.failures[0]}`);
    }
  }
  const seconds = (performance.now() - started) / 1_000;
  console.log(
    `${count} seeds in ${seconds.toFixed(1)} s: ${accepted} accepted, ${crashes} crashes, ${reruns} re-runs, ${broken} seeds broke a promise`,
  );
  process.exitCode = broken === 0 ? 0 : 1;
}
