/** Runs tools at other peers: directly, or through the peer that named them. */
import { type ErrorShape, FlowmeshError, type JsonObject, RemoteError } from '../../dag/errors.ts';
import type { ToolCall } from '../api.ts';
import { HopsExceededError, PeerSilentError, PeerUnreachableError } from '../errors.ts';
import { CALL_DEADLINE_MS, CALL_HOPS_MAX } from '../limits.ts';
import { callAnswerSchema } from '../messages.ts';
import type { Clock, Network } from '../ports.ts';
import { mayDo } from '../roles.ts';
import type { Signatures } from '../signatures.ts';
import type { Locator } from './locator.ts';

interface RemoteCallParts {
  network: Network;
  clock: Clock;
  locator: Pick<Locator, 'isThere' | 'viaOf'>;
  signatures: Signatures;
  options: { beat_interval_ms: number };
}

export class RemoteCalls {
  readonly #parts: RemoteCallParts;

  constructor(parts: RemoteCallParts) {
    this.#parts = parts;
  }

  /**
   * Runs a tool at another peer, directly or through the peer that named it.
   *
   * @throws PeerUnreachableError when the call was not sent, so that the tool did not run. After any other error on the
   *   way there or back, such as PEER_SILENT or DEADLINE_EXCEEDED, the tool may have run.
   */
  async call(
    { peer_id, addresses }: { peer_id: string; addresses: string[] },
    call: ToolCall,
    deadlineMs = CALL_DEADLINE_MS,
  ): Promise<JsonObject> {
    const { tool, input, hops } = call;
    if (hops > CALL_HOPS_MAX) throw new HopsExceededError(tool);
    const target = await this.#reachable(peer_id, addresses);
    const asked: JsonObject = { tool, input, hops };
    if (call.caller.id !== null) asked['caller'] = { ...(call.vouched ?? this.#parts.signatures.vouched(call)) };
    const request = this.#parts.network.request(target, 'call', asked, deadlineMs);
    const parsed = callAnswerSchema.safeParse(await this.#whileThere(target, request));
    if (!parsed.success) {
      throw new FlowmeshError('BAD_ANSWER', `peer ${target} gave an answer to ${tool} that cannot be read`, {
        retryable: false,
      });
    }
    if ('error' in parsed.data) throw new RemoteError(parsed.data.error as ErrorShape);
    return parsed.data.output as JsonObject;
  }

  /** @returns the peer to send a call to: the one that is meant, or the one that named it and will hand the call on */
  async #reachable(peer: string, addresses: string[]): Promise<string> {
    const { network, locator } = this.#parts;
    if (network.connected().includes(peer)) return peer;
    try {
      await network.connect(peer, addresses);
      return peer;
    } catch (error) {
      const via = locator.viaOf(peer);
      const mayHandOn = via !== undefined && mayDo(network.membership(via), ['submit']);
      if (mayHandOn && network.connected().includes(via)) return via;
      throw new PeerUnreachableError(peer, error);
    }
  }

  /** The answer, or PEER_SILENT when the peer gives no sign of life any more: its machine may be asleep. */
  #whileThere<T>(peer: string, answer: Promise<T>): Promise<T> {
    const { clock, locator, options } = this.#parts;
    const { promise: silent, reject } = Promise.withResolvers<never>();
    const look = () => {
      cancel = clock.after(options.beat_interval_ms, () => {
        if (locator.isThere(peer)) look();
        else reject(new PeerSilentError(peer));
      });
    };
    let cancel = () => {};
    look();
    return Promise.race([answer, silent]).finally(() => cancel());
  }
}
