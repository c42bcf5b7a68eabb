/**
 * Messages between two event loops, one `postMessage` per turn: waking the other loop costs more than the message.
 */

/** A MessagePort, a Worker, or `parentPort`. */
interface Port {
  postMessage(batch: unknown[]): void;
  on(event: 'message', listener: (batch: unknown) => void): unknown;
}

export class BatchPort<Out, In> {
  readonly #port: Port;
  readonly #onUnclonable: (message: Out, error: unknown) => void;
  #waiting: Out[] = [];

  /**
   * @param hooks.onMessage called for each message of the other side, in its order
   * @param hooks.onUnclonable called for a message that is not plain data; the others of its batch are delivered
   */
  constructor(
    port: Port,
    hooks: { onMessage: (message: In) => void; onUnclonable: (message: Out, error: unknown) => void },
  ) {
    this.#port = port;
    this.#onUnclonable = hooks.onUnclonable;
    port.on('message', (batch) => {
      for (const message of batch as In[]) hooks.onMessage(message);
    });
  }

  /** Delivered with everything else of this turn, in the order of the calls. */
  post(message: Out): void {
    this.#waiting.push(message);
    if (this.#waiting.length === 1) setImmediate(() => this.flush());
  }

  /** Sends what waits now. For the last message before a loop ends. */
  flush(): void {
    const batch = this.#waiting;
    if (batch.length === 0) return;
    this.#waiting = [];
    try {
      this.#port.postMessage(batch);
    } catch {
      // One message spoils a batch: alone, each shows whether it was the one.
      for (const message of batch) this.#postAlone(message);
    }
  }

  #postAlone(message: Out): void {
    try {
      this.#port.postMessage([message]);
    } catch (error) {
      this.#onUnclonable(message, error);
    }
  }
}
