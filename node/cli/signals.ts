/**
 * Ctrl-C and its kin. One press may arrive twice: from the terminal, and again from npm or from the older Node that
 * hands signals on. So a repetition within SIGNAL_ECHO_MS counts as the same press.
 */
const SIGNAL_ECHO_MS = 250;
const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
export type StopSignal = (typeof STOP_SIGNALS)[number];

/**
 * Calls back with each signal and how many came before it; the process no longer ends by itself.
 *
 * @returns what restores the usual behaviour
 */
export function onStopSignal(callback: (signal: StopSignal, earlier: number) => void): () => void {
  let count = 0;
  let last = Number.NEGATIVE_INFINITY;
  const listener = (signal: NodeJS.Signals) => {
    const now = performance.now();
    const echo = now - last < SIGNAL_ECHO_MS;
    last = now;
    if (!echo) callback(signal as StopSignal, count++);
  };
  for (const signal of STOP_SIGNALS) process.on(signal, listener);
  return () => {
    for (const signal of STOP_SIGNALS) process.off(signal, listener);
  };
}
