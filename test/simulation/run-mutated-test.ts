/**
 * `node test/simulation/run-mutated-test.ts <name of a mutation>`: runs the test that holds what the mutation takes out,
 * with the mutation in the source, and prints how many tests failed and passed, as JSON.
 */
import { startVitest } from 'vitest/node';
import { mutated } from './mutate.ts';
import { HELD_BY_TESTS } from './mutations.ts';

const root = new URL('../..', import.meta.url);
const held = HELD_BY_TESTS.find(({ name }) => name === process.argv[2])!;
const source = new URL(held.file, root).pathname;
const plugin = {
  name: 'mutation',
  enforce: 'pre' as const,
  transform: (code: string, id: string) => (id === source ? mutated(held, code) : undefined),
};
// Without the cache of transformed sources, whose keys know nothing of the mutation.
const vitest = await startVitest(
  'test',
  [held.test],
  { root: root.pathname, watch: false, reporters: [], testNamePattern: held.named, fsModuleCache: false },
  { plugins: [plugin] },
);
const results = vitest.state.getTestModules().flatMap((module) => [...module.children.allTests()]);
const states = results.map((test) => test.result().state);
const count = (state: string) => states.filter((each) => each === state).length;
await vitest.close();
console.log(JSON.stringify({ failed: count('failed'), passed: count('passed') }));
process.exitCode = 0; // a failed test is what is looked for
