/**
 * `npm run fuzz`: many inputs that nobody wrote with care, at every edge where data comes in. Exits 1 when one of them was
 * neither taken nor refused in plain words, with what replays it.
 *
 *   npm run fuzz -- --cases 100000
 *   npm run fuzz -- --cases 1000 --seed 17 --edge frames
 *   npm run fuzz -- --mesh --cases 500
 */
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { EDGES } from './edges.ts';
import { fuzzMesh } from './mesh.ts';

const { values } = parseArgs({
  options: {
    /** How many, of all edges together. */
    cases: { type: 'string', default: '10000' },
    seed: { type: 'string' },
    /** Only at the edges with this in their name. */
    edge: { type: 'string', default: '' },
    /** Sent to three real peers at once, while a workflow runs beside it. */
    mesh: { type: 'boolean', default: false },
  },
});
const cases = Number(values.cases);
const seed = values.seed === undefined ? Date.now() & 0x7fffffff : Number(values.seed);
if (!(Number.isInteger(cases) && cases > 0 && Number.isInteger(seed)))
  throw new Error('--cases and --seed are whole numbers');

if (values.mesh) {
  const { sent, refused } = await fuzzMesh(cases, seed);
  console.log(
    `${sent} inputs sent to three peers (seed ${seed}), ${refused} refused; the workflow beside them completed`,
  );
  process.exit(0);
}
const edges = EDGES.filter(({ name }) => name.includes(values.edge));
let failed = false;
for (const { name, property } of edges) {
  const started = performance.now();
  const numRuns = Math.ceil(cases / edges.length);
  const outcome = await fc.check(property, { numRuns, seed });
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  console.log(`${outcome.failed ? 'FAILED' : 'ok'}  ${name}: ${outcome.numRuns} inputs in ${seconds} s (seed ${seed})`);
  if (!outcome.failed) continue;
  failed = true;
  console.log(fc.stringify(outcome.counterexample).slice(0, 2_000));
  console.log(outcome.errorInstance);
}
process.exit(failed ? 1 : 0);
