/**
 * Follows a workflow to its end: a picture that is redrawn where stderr is a terminal, a line per change elsewhere.
 * Progress goes to stderr and the result to stdout, so that the result can be piped while the progress is seen.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { JsonObject } from '../../dag/errors.ts';
import { WHOLE } from '../../tools/cut.ts';
import { ALL_STEPS } from '../../tools/workflow/step-pages.ts';
import { flowmeshHome } from '../data-folder.ts';
import { printable, printableJson } from '../printable.ts';
import { paint } from './cells.ts';
import type { PeerAddress } from './client.ts';
import { EXIT, EXIT_INTERRUPTED } from './exit.ts';
import { MeshClient } from './mesh-client.ts';
import { shortPeerId } from './render.ts';
import { onStopSignal } from './signals.ts';
import { hasEnded, plainView, renderRun, type ShownRun, type View } from './watch-view.ts';

const POLL_MS = 200;
/** Runs of many steps are asked for less often: each answer has every step. */
const POLL_LARGE_MS = 1_000;
const LARGE_STEPS_MIN = 500;
const COLUMNS_DEFAULT = 80;
const ROWS_DEFAULT = 24;

/**
 * @param peer that is asked first
 * @returns the exit code: done when the workflow completed
 */
export async function watchWorkflow(peer: PeerAddress, workflowId: string, json: boolean): Promise<number> {
  const stopped = new AbortController();
  const restore = onStopSignal(() => stopped.abort());
  const view = await createView();
  const client = new MeshClient(peer, flowmeshHome(process.env), (from, to) => {
    view.end();
    process.stderr.write(`The peer at ${from} does not answer any more; watching through the one at ${to}.\n`);
  });
  const names = new PeerNames(client);
  try {
    for (;;) {
      const run = (await client.call('workflow_status', {
        workflow_id: workflowId,
        ...ALL_STEPS,
        ...WHOLE,
      })) as unknown as ShownRun;
      await names.learn(run.steps?.flatMap((step) => step.peers ?? []) ?? []);
      view.show(run, (peer) => names.of(peer));
      if (hasEnded(run)) break;
      const pause = run.steps_total >= LARGE_STEPS_MIN ? POLL_LARGE_MS : POLL_MS;
      // Rejects when the watching was stopped: the check below tells.
      await delay(pause, undefined, { signal: stopped.signal }).catch(() => undefined);
      if (stopped.signal.aborted) {
        view.end();
        process.stderr.write(`\n${goesOn(workflowId)}\n`);
        return EXIT_INTERRUPTED;
      }
    }
    view.end();
    return await printResult(client, workflowId, json);
  } catch (error) {
    view.end();
    process.stderr.write(`${goesOn(workflowId)}\n`);
    throw error;
  } finally {
    restore();
    await client.close();
  }
}

function goesOn(workflowId: string): string {
  return `No longer watching; the workflow goes on in the mesh. Come back with: flowmesh workflow status ${workflowId} --watch`;
}

async function printResult(client: MeshClient, workflowId: string, json: boolean): Promise<number> {
  const output = await client.call('workflow_result', {
    workflow_id: workflowId,
    include_outputs: false,
    ...WHOLE,
  });
  const completed = output['status'] === 'completed';
  if (json) process.stdout.write(`${printableJson(output, 2)}\n`);
  else if (completed) process.stdout.write(`${printableJson(output['result'], 2)}\n`);
  else {
    const error = output['error'] as JsonObject | null;
    const why = error === null ? '' : `: ${error['code']} ${error['message']}`;
    process.stderr.write(`${paint('red', printable(`${workflowId} ${output['status']}${why}`), process.stderr)}\n`);
  }
  return completed ? EXIT.done : EXIT.failed;
}

async function createView(): Promise<View> {
  if (!process.stderr.isTTY) return plainView((line) => process.stderr.write(`${line}\n`));
  const { createLogUpdate } = await import('log-update');
  const draw = createLogUpdate(process.stderr);
  return {
    show(run, nameOf) {
      const { rows = ROWS_DEFAULT, columns = COLUMNS_DEFAULT } = process.stderr;
      draw(renderRun(run, nameOf, { rows, columns }));
    },
    end: () => draw.done(),
  };
}

/** Names of peers, asked for when an unknown one appears; each only once. */
class PeerNames {
  readonly #client: MeshClient;
  readonly #names = new Map<string, string>();

  constructor(client: MeshClient) {
    this.#client = client;
  }

  async learn(peers: string[]): Promise<void> {
    const unknown = peers.filter((peer) => !this.#names.has(peer));
    if (unknown.length === 0) return;
    for (const peer of unknown) this.#names.set(peer, shortPeerId(peer));
    try {
      const [self, list] = await Promise.all([this.#client.status(), this.#client.call('peer_list', { limit: 1_000 })]);
      for (const { peer_id, name } of [self, ...(list['peers'] as JsonObject[])]) {
        if (typeof peer_id === 'string' && typeof name === 'string') this.#names.set(peer_id, printable(name));
      }
    } catch {
      // Short ids do as well; what really is wrong shows at the next status.
    }
  }

  of(peer: string): string {
    return this.#names.get(peer) ?? shortPeerId(peer);
  }
}
