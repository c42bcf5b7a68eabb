/**
 * How a part tells something to parts above it: the part is made first and tells the signal, and parts that are made
 * later listen to it. `assemble.ts` connects them, once, when everything is made.
 */
export class Signal<Said extends readonly unknown[] = []> {
  readonly #listeners: ((...said: Said) => void)[] = [];

  /** Adds a listener. Listeners are called in the order in which they were added. */
  listen(listener: (...said: Said) => void): void {
    this.#listeners.push(listener);
  }

  /** Calls all listeners. Bound, so that it can be handed over as a hook. */
  readonly tell = (...said: Said): void => {
    for (const listener of this.#listeners) listener(...said);
  };
}
