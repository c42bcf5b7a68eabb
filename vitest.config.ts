import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/harness/longest-first.ts';
import { TEST_HANG_MS } from './test/harness/patience.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // A CommonJS package is to a test what it is to the program: what Node itself makes of it.
    deps: { interopDefault: false },
    // No test measures the machine: only what hangs meets these.
    testTimeout: TEST_HANG_MS,
    hookTimeout: TEST_HANG_MS,
    // Tests start peers and processes of their own: two files at once is what two cores carry.
    maxWorkers: 2,
    // No file leaves anything behind that another one could meet: two processes for all, not one for each.
    isolate: false,
    sequence: { sequencer: LongestFirst },
    // Threads and child processes are those of the bundle, which start in a third of the time.
    alias: [
      { find: /^.*\/sibling-module\.ts$/, replacement: join(import.meta.dirname, 'test/harness/sibling-module.ts') },
    ],
  },
});
