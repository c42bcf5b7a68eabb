import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // A CommonJS package is to a test what it is to the program: what Node itself makes of it.
    deps: { interopDefault: false },
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Tests start peers and processes of their own: two files at once is what two cores carry.
    maxWorkers: 2,
    // No file leaves anything behind that another one could meet: two processes for all, not one for each.
    isolate: false,
  },
});
