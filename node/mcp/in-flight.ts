/**
 * The requests of one client that have no answer yet, by id. Two with one id could not be told apart: a cancel would reach
 * either, and over HTTP one would get the other's answer.
 */
import { ErrorCode, type JSONRPCMessage, type RequestId } from '@modelcontextprotocol/sdk/types.js';
import { quoted } from '../../dag/quoted.ts';
import { RpcError, requestId } from './messages.ts';

export class InFlight {
  readonly #ids = new Set<RequestId>();

  /**
   * Notes the requests among `messages`: all of them, or none.
   *
   * @returns gives them up again, for messages that were not handed on after all
   * @throws RpcError InvalidRequest (-32600) for an id that another request has which is not answered yet
   */
  begin(messages: readonly JSONRPCMessage[]): () => void {
    const begun: RequestId[] = [];
    const giveUp = () => {
      for (const id of begun) this.#ids.delete(id);
    };
    for (const message of messages) {
      const id = requestId(message);
      if (id === null) continue;
      if (this.#ids.has(id)) {
        giveUp();
        const text = `Invalid Request: the request with id ${typeof id === 'string' ? quoted(id) : id} is not answered yet. Give each request an id of its own`;
        throw new RpcError(ErrorCode.InvalidRequest, text, id);
      }
      this.#ids.add(id);
      begun.push(id);
    }
    return giveUp;
  }

  /** The request `id` has been answered, or will not be. */
  end(id: RequestId): void {
    this.#ids.delete(id);
  }

  /** Notes an answer that passes by. */
  passed(message: JSONRPCMessage): void {
    if (!('method' in message) && message.id !== undefined && message.id !== null) this.end(message.id);
  }
}
