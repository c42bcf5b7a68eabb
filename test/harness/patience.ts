/**
 * How long a test waits for what has to come. No test measures the machine: whatever has not come after this hangs,
 * however slow the machine is and whatever else it does. How long things take is measured in bench/.
 */
export const HANG_MS = 240_000;
/** Of a whole test: several waits one after the other. */
export const TEST_HANG_MS = 2 * HANG_MS;
