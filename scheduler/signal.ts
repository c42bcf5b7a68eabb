/**
 * What a part has to say to parts above it: it is made first and tells the signal; those that are made later listen.
 * `assemble.ts` connects them, once, when everything is made.
 */
export class Signal<Said extends readonly unknown[] = []> {
  readonly #listeners: ((...said: Said) => void)[] = [];

  /** Called in the order in which they began to listen. */
  listen(listener: (...said: Said) => void): void {
    this.#listeners.push(listener);
  }

  /** Bound, so that it can be handed over as a hook. */
  readonly tell = (...said: Said): void => {
    for (const listener of this.#listeners) listener(...said);
  };
}
