/**
 * A worker of the measured mesh: a peer in a process of its own, told over the channel of `fork` what to do, one thing
 * at a time.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { PeerFigures } from './throughput-figures.ts';
import { type PeerConfig, ThroughputPeer } from './throughput-peer.ts';

type Command = 'figures' | 'stop';

export class WorkerProcess {
  readonly peer_id: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, peerId: string) {
    this.#child = child;
    this.peer_id = peerId;
  }

  static async start(config: PeerConfig): Promise<WorkerProcess> {
    const child = fork(import.meta.filename, [JSON.stringify(config)]);
    return new WorkerProcess(child, (await heard(child)) as string);
  }

  async figures(): Promise<PeerFigures> {
    this.#child.send('figures' satisfies Command);
    return (await heard(this.#child)) as PeerFigures;
  }

  async stop(): Promise<void> {
    const exited = once(this.#child, 'exit');
    this.#child.send('stop' satisfies Command);
    await exited;
  }
}

/** @throws when the process ends first */
async function heard(child: ChildProcess): Promise<unknown> {
  const abort = new AbortController();
  const { signal } = abort;
  try {
    const ended = once(child, 'exit', { signal }).then(([code, how]) => {
      throw new Error(`a worker of the measured mesh ended: ${how ?? `exit code ${code}`}`);
    });
    const [message] = await Promise.race([once(child, 'message', { signal }), ended]);
    return message;
  } finally {
    abort.abort();
  }
}

if (import.meta.main) {
  const peer = await ThroughputPeer.start(JSON.parse(process.argv[2]!));
  process.on('message', async (command: Command) => {
    if (command === 'figures') return process.send!(await peer.figures());
    await peer.stop();
    process.exit();
  });
  process.once('disconnect', () => process.exit());
  process.send!(peer.peer_id);
}
