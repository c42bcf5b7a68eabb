/** How the serve loop of a measured peer reaches the probes on its mesh thread. */
import { BroadcastChannel } from 'node:worker_threads';
import { errorShape } from '../dag/errors.ts';
import type { CommittedResult, CommittedResults, Probe, ProbedMesh, Samples } from './probes.ts';

const CHANNEL = 'flowmesh-bench-probes';

type Message =
  | { kind: 'probe'; probe: Probe }
  | { kind: 'samples'; samples: Samples }
  | { kind: 'failed'; reason: string }
  /** A step that the serve loop started. */
  | { kind: 'result'; result: CommittedResult };

/** The mesh thread's end. */
export class ProbeServer {
  readonly #channel = new BroadcastChannel(CHANNEL);

  constructor() {
    this.#channel.unref();
  }

  serve(mesh: ProbedMesh): void {
    this.#channel.onmessage = ({ data }) => {
      const message = data as Message;
      if (message.kind !== 'probe') return;
      mesh.run(message.probe).then(
        (samples) => this.post({ kind: 'samples', samples }),
        (error) => this.post({ kind: 'failed', reason: errorShape(error).message }),
      );
    };
  }

  post(message: Message): void {
    this.#channel.postMessage(message);
  }
}

/** The serve loop's end. One probe at a time. */
export class ProbeClient {
  readonly #channel = new BroadcastChannel(CHANNEL);
  #running: PromiseWithResolvers<Samples> | undefined;

  /** @param results of steps that this loop started */
  constructor(results: CommittedResults) {
    this.#channel.unref();
    this.#channel.onmessage = ({ data }) => {
      const message = data as Message;
      if (message.kind === 'result') results.settle(message.result);
      else if (message.kind === 'samples') this.#running?.resolve(message.samples);
      else if (message.kind === 'failed') this.#running?.reject(new Error(message.reason));
    };
  }

  run(probe: Probe): Promise<Samples> {
    this.#running = Promise.withResolvers();
    this.#channel.postMessage({ kind: 'probe', probe } satisfies Message);
    return this.#running.promise;
  }
}
