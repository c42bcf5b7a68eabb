/**
 * Reads from whichever peer of a mesh answers: from one, and when that is gone from another that runs on this machine.
 * For reads alone, which may be sent again; a change is sent once (client.ts).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { runningPeers } from '../data-folder.ts';
import { type PeerAddress, PeerClient } from './client.ts';
import { PeerUnreachableError } from './exit.ts';
import { addressOf } from './find-peer.ts';

/** A peer that is silent for so long counts as gone. */
const ANSWER_WAIT_MS = 15_000;
/** What a dead peer owned has a new owner by then; before that others may not know of it. */
const MOVE_WITHIN_MS = 30_000;
const MOVE_RETRY_MS = 500;

export class MeshClient {
  #client: PeerClient;
  readonly #home: string;
  #mesh: string | undefined;
  /** Told the URL of the next peer when one is gone. */
  readonly #onMove: (from: string, to: string) => void;

  /** @param home where the folders of this machine's peers are */
  constructor(peer: PeerAddress, home: string, onMove: (from: string, to: string) => void) {
    this.#client = new PeerClient(peer, ANSWER_WAIT_MS);
    this.#home = home;
    this.#onMove = onMove;
  }

  /** @throws what `PeerClient.call` does, when no peer of the mesh on this machine answers */
  async call(tool: string, input: JsonObject): Promise<JsonObject> {
    try {
      // While it answers: nobody else can say which mesh it was of.
      this.#mesh ??= meshIn(await this.#client.status());
      return await this.#client.call(tool, input);
    } catch (error) {
      if (!(error instanceof PeerUnreachableError)) throw error;
      return await this.#callElsewhere(tool, input, error);
    }
  }

  status(): Promise<JsonObject> {
    return this.#client.status();
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  async #callElsewhere(tool: string, input: JsonObject, gone: PeerUnreachableError): Promise<JsonObject> {
    const from = this.#client.url;
    const until = performance.now() + MOVE_WITHIN_MS;
    for (;;) {
      let said: unknown;
      for (const peer of await this.#others(from)) {
        const client = new PeerClient(peer, ANSWER_WAIT_MS);
        try {
          const output = await client.call(tool, input);
          this.#client = client;
          this.#onMove(from, peer.url);
          return output;
        } catch (error) {
          if (!(error instanceof PeerUnreachableError)) said = error;
          await client.close();
        }
      }
      if (said === undefined) throw gone;
      const mayCome = said instanceof FlowmeshError && (said.retryable || said.code === 'NOT_FOUND');
      if (!mayCome || performance.now() > until) throw said;
      await delay(MOVE_RETRY_MS);
    }
  }

  async #others(from: string): Promise<PeerAddress[]> {
    if (this.#mesh === undefined) return [];
    const peers = await runningPeers(this.#home, this.#mesh);
    return peers.flatMap(({ record }) =>
      record.http_url === null || record.http_url === from ? [] : [addressOf(record, record.http_url, process.env)],
    );
  }
}

function meshIn(status: JsonObject): string | undefined {
  return typeof status['mesh'] === 'string' ? status['mesh'] : undefined;
}
