import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Tests start peers and processes of their own: two files at once is what two cores carry.
    maxWorkers: 2,
  },
});
