/**
 * The one long-lived stream between two peers: requests, answers and notifications in both directions.
 *
 * 1. Messages given in one callback of the event loop, and in the promises that it settles, travel in one frame (or
 *    few, by size), in their order.
 * 2. Nothing is written while the stream is full; what waits is bounded in bytes (P7).
 * 3. At most REQUESTS_IN_FLIGHT_MAX requests are unanswered; more wait in line, bounded, their deadline running.
 * 4. Bytes that are not frames of messages end the stream, and the other side is told why first.
 *
 * Events of the stream are used directly: a promise per chunk costs more than the rest of the way.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface';
import { errorShape, type JsonObject, type JsonValue, RemoteError } from '../../dag/errors.ts';
import type { Log } from '../../scheduler/ports.ts';
import { DeadlineExceededError, MessageTooLargeError, PeerBusyError, PeerUnreachableError } from './errors.ts';
import {
  FrameReader,
  MalformedFrameError,
  MESSAGE_BYTES_MAX,
  type Message,
  Outbox,
  packMessage,
  takeFrame,
} from './frames.ts';
import { spareWindowUpdates } from './yamux-window.ts';

/** Unanswered requests to one peer. */
export const REQUESTS_IN_FLIGHT_MAX = 1_024;
/** Requests to one peer that wait until one in flight is answered. */
export const REQUESTS_WAITING_MAX = 16_384;
/** Requests of one peer being handled here. More than it may have in flight, as it forgets those past their deadline. */
export const REQUESTS_SERVED_MAX = 4 * REQUESTS_IN_FLIGHT_MAX;
/** Packed messages that wait to be sent to one peer, requests in line included. */
export const OUTBOX_BYTES_MAX = 64 * 1024 * 1024;
/** What a timer can wait: about 25 days. */
const DEADLINE_MS_MAX = 2 ** 31 - 1;
/** How long a closing stream may take to send what it has, and then the other side to close its end too. */
const CLOSE_TIMEOUT_MS = 500;
/** How often a stream that another one replaced is looked at, and how long it is let be. */
const RETIRE_LOOK_MS = 500;
const RETIRE_MAX_MS = 30_000;
/** A beat behind a full line of requests would make a busy peer look dead. There is one a second. */
const NEVER_WAITS = 'beat';

export const GOODBYE = 'goodbye';

/** Why a stream ended, as its last message says. */
export interface Goodbye {
  code: string;
  message: string;
}

/** Who is told what comes in on a stream. */
export interface StreamReceiver {
  request(method: string, params: unknown): Promise<JsonValue | undefined>;
  notification(method: string, params: unknown): void;
  /** Called once. `goodbye` is null when the stream or its connection just broke. */
  closed(goodbye: Goodbye | null, by: 'here' | 'there'): void;
}

interface PendingRequest {
  method: string;
  deadlineMs: number;
  packed: Uint8Array;
  timer: NodeJS.Timeout;
  resolve: (result: JsonValue) => void;
  reject: (error: Error) => void;
}

export interface PeerStreamLimits {
  messageBytesMax?: number;
  requestsInFlightMax?: number;
  requestsWaitingMax?: number;
  requestsServedMax?: number;
  outboxBytesMax?: number;
}

/**
 * @example
 * const stream = new PeerStream(await connection.newStream(PEER_PROTOCOL), remotePeer, receiver, log);
 * const answer = await stream.request('describe', {}, 5_000);
 */
export class PeerStream {
  readonly peer: string;
  bytesSent = 0;
  bytesReceived = 0;
  /** Wall-clock milliseconds of the last bytes that came in. */
  lastReceived = Date.now();
  /** May be replaced: the greeting listens first, then the network. */
  receiver: StreamReceiver;
  readonly #stream: Stream;
  readonly #log: Log;
  readonly #limits: Required<PeerStreamLimits>;
  readonly #reader: FrameReader;
  readonly #outbox = new Outbox();
  readonly #inFlight = new Map<number, PendingRequest>();
  readonly #waiting = new Map<number, PendingRequest>();
  #waitingBytes = 0;
  #serving = 0;
  #lastId = 0;
  #flushScheduled = false;
  #closed = false;
  #warnedFull = false;

  constructor(stream: Stream, peer: string, receiver: StreamReceiver, log: Log, limits: PeerStreamLimits = {}) {
    this.peer = peer;
    this.receiver = receiver;
    this.#stream = stream;
    this.#log = log;
    this.#limits = {
      messageBytesMax: limits.messageBytesMax ?? MESSAGE_BYTES_MAX,
      requestsInFlightMax: limits.requestsInFlightMax ?? REQUESTS_IN_FLIGHT_MAX,
      requestsWaitingMax: limits.requestsWaitingMax ?? REQUESTS_WAITING_MAX,
      requestsServedMax: limits.requestsServedMax ?? REQUESTS_SERVED_MAX,
      outboxBytesMax: limits.outboxBytesMax ?? OUTBOX_BYTES_MAX,
    };
    this.#reader = new FrameReader(this.#limits.messageBytesMax);
    spareWindowUpdates(stream);
    // libp2p's stream forgets `drain` listeners never; they live and die with the stream.
    stream.addEventListener('message', this.#onChunk);
    stream.addEventListener('drain', this.#scheduleFlush);
    stream.addEventListener('close', this.#onClose);
    stream.addEventListener('remoteCloseWrite', this.#onRemoteEnd);
  }

  get open(): boolean {
    return !this.#closed;
  }

  /** Requests sent and not answered, and requests in line. */
  get unanswered(): { inFlight: number; waiting: number } {
    return { inFlight: this.#inFlight.size, waiting: this.#waiting.size };
  }

  /**
   * Asks the other side.
   *
   * @throws PeerUnreachableError, DeadlineExceededError, PeerBusyError, MessageTooLargeError, or the other side's
   * own error as RemoteError
   */
  request(method: string, params: JsonObject, deadlineMs: number): Promise<JsonValue> {
    if (this.#closed) return Promise.reject(new PeerUnreachableError(this.peer, 'its stream is closed'));
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId;
      const packed = packMessage({ id, method, params });
      const refusal = this.#refusal(method, packed.byteLength);
      if (refusal !== undefined) return reject(refusal);
      const timer = setTimeout(() => this.#expire(id), Math.min(deadlineMs, DEADLINE_MS_MAX));
      const request = { method, deadlineMs, packed, timer, resolve, reject };
      if (this.#inFlight.size < this.#limits.requestsInFlightMax || method === NEVER_WAITS) this.#send(id, request);
      else this.#wait(id, request);
    });
  }

  /** Tells the other side something that it does not answer. What cannot be sent is logged and dropped. */
  notify(method: string, params: JsonObject): void {
    if (this.#closed) return;
    const packed = packMessage({ method, params });
    const refusal = this.#refusal(method, packed.byteLength);
    if (refusal === undefined) this.#enqueue(packed);
    else this.#log.warn({ peer: this.peer, method, code: refusal.code }, refusal.message);
  }

  /**
   * Says goodbye, sends what is left, and closes. The receiver hears `closed(goodbye, 'here')` at once.
   *
   * @returns resolves when the other side closed too, or within a bound. A connection that is closed before that is
   * reset by libp2p when anything else is under way on it, and the goodbye may never be read.
   */
  close(goodbye: Goodbye): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#outbox.push(packMessage({ method: GOODBYE, params: { code: goodbye.code, message: goodbye.message } }));
    this.#flush();
    this.#end(goodbye, 'here');
    return this.#closeStream();
  }

  /**
   * As `close`, once nothing is under way on it any more in either direction, or within a bound. Both sides do so for
   * a stream that another one replaced: what each of them is asked is answered here.
   */
  async retire(goodbye: Goodbye): Promise<void> {
    for (let waitedMs = 0; waitedMs < RETIRE_MAX_MS && !this.#closed; waitedMs += RETIRE_LOOK_MS) {
      // The other side may not know yet that there is another stream, so not at once.
      await sleep(RETIRE_LOOK_MS, undefined, { ref: false });
      if (this.#inFlight.size + this.#waiting.size + this.#serving === 0) break;
    }
    await this.close(goodbye);
  }

  /** Ends the stream without a word. */
  abort(why: string): void {
    this.#end(null, 'here');
    this.#stream.abort(new Error(why));
  }

  #refusal(method: string, bytes: number): MessageTooLargeError | PeerBusyError | undefined {
    const { messageBytesMax, outboxBytesMax, requestsWaitingMax } = this.#limits;
    if (bytes > messageBytesMax) return new MessageTooLargeError(method, bytes, messageBytesMax);
    const unsentBytes = this.#outbox.bytes + this.#waitingBytes;
    if (unsentBytes + bytes > outboxBytesMax) {
      return new PeerBusyError(this.peer, `${unsentBytes} bytes wait to be sent (limit ${outboxBytesMax})`);
    }
    if (this.#waiting.size >= requestsWaitingMax && method !== NEVER_WAITS) {
      return new PeerBusyError(this.peer, `${this.#waiting.size} requests wait in line (limit ${requestsWaitingMax})`);
    }
    return undefined;
  }

  #wait(id: number, request: PendingRequest): void {
    this.#waiting.set(id, request);
    this.#waitingBytes += request.packed.byteLength;
  }

  #leaveLine(id: number): PendingRequest | undefined {
    const request = this.#waiting.get(id);
    if (request === undefined) return undefined;
    this.#waiting.delete(id);
    this.#waitingBytes -= request.packed.byteLength;
    return request;
  }

  #send(id: number, request: PendingRequest): void {
    this.#inFlight.set(id, request);
    this.#enqueue(request.packed);
  }

  #enqueue(packed: Uint8Array): void {
    this.#outbox.push(packed);
    this.#scheduleFlush();
  }

  readonly #scheduleFlush = (): void => {
    if (this.#flushScheduled || this.#outbox.empty || this.#closed) return;
    this.#flushScheduled = true;
    process.nextTick(this.#flushScheduledNow);
  };

  readonly #flushScheduledNow = (): void => {
    this.#flushScheduled = false;
    if (!this.#closed) this.#flush();
  };

  #flush(): void {
    try {
      while (!this.#outbox.empty && !this.#stream.writableNeedsDrain) {
        for (const chunk of takeFrame(this.#outbox)) {
          this.bytesSent += chunk.byteLength;
          this.#stream.send(chunk);
        }
      }
    } catch (error) {
      // `send` throws when the stream closed under us, and its close event may be later.
      this.#log.debug({ peer: this.peer, error }, 'the peer stream took no more bytes');
      this.abort('the peer stream took no more bytes');
    }
  }

  readonly #onChunk = (event: StreamMessageEvent): void => {
    if (this.#closed) return;
    const chunk = event.data instanceof Uint8Array ? event.data : event.data.subarray();
    this.bytesReceived += chunk.byteLength;
    this.lastReceived = Date.now();
    try {
      for (const message of this.#reader.push(chunk)) {
        this.#handle(message);
        if (this.#closed) return;
      }
    } catch (error) {
      if (!(error instanceof MalformedFrameError)) throw error;
      this.#log.warn({ peer: this.peer, reason: error.message }, 'closed the stream of a peer: malformed frame');
      void this.close({ code: 'MALFORMED_FRAME', message: `The stream is closed because ${error.message}.` });
    }
  };

  #handle(message: Message): void {
    const { id, method } = message;
    if (method === undefined) this.#settle(id!, message);
    else if (id !== undefined) this.#serve(id, method, message.params);
    else if (method === GOODBYE) this.#onGoodbye(message.params);
    else this.receiver.notification(method, message.params);
  }

  #settle(id: number, message: Message): void {
    const request = this.#inFlight.get(id);
    if (request === undefined) {
      if (id > this.#lastId) throw new MalformedFrameError(`it answers request ${id}, which was never sent`);
      return; // The answer came after the deadline: the caller was told so.
    }
    this.#forget(id, request);
    if (message.error === undefined) request.resolve((message.result ?? null) as JsonValue);
    else request.reject(new RemoteError(message.error));
  }

  /** Takes a request off the books and lets the next one in line go. */
  #forget(id: number, request: PendingRequest): void {
    clearTimeout(request.timer);
    this.#inFlight.delete(id);
    if (this.#waiting.size === 0 || this.#inFlight.size >= this.#limits.requestsInFlightMax) return;
    const nextId = this.#waiting.keys().next().value!;
    this.#send(nextId, this.#leaveLine(nextId)!);
  }

  #expire(id: number): void {
    const sent = this.#inFlight.get(id);
    if (sent !== undefined) this.#forget(id, sent);
    const request = sent ?? this.#leaveLine(id);
    request?.reject(new DeadlineExceededError(this.peer, request.method, request.deadlineMs));
  }

  #serve(id: number, method: string, params: unknown): void {
    if (this.#serving >= this.#limits.requestsServedMax) {
      const busy = new PeerBusyError(this.peer, `${this.#serving} of its requests are being handled`);
      this.#answer(method, { id, error: busy.toShape() });
      return;
    }
    this.#serving++;
    this.receiver.request(method, params).then(
      (result) => this.#served(method, { id, result: result ?? null }),
      (error) => this.#served(method, { id, error: errorShape(error) }),
    );
  }

  #served(method: string, answer: Message): void {
    this.#serving--;
    this.#answer(method, answer);
  }

  #answer(method: string, answer: Message): void {
    if (this.#closed) return;
    let packed = packMessage(answer);
    const { messageBytesMax, outboxBytesMax } = this.#limits;
    if (packed.byteLength > messageBytesMax) {
      const error = new MessageTooLargeError(`answer to ${method}`, packed.byteLength, messageBytesMax);
      packed = packMessage({ id: answer.id!, error: error.toShape() });
    }
    if (this.#outbox.bytes + packed.byteLength > outboxBytesMax) {
      if (!this.#warnedFull) this.#log.warn({ peer: this.peer }, 'a peer does not read its answers; they are dropped');
      this.#warnedFull = true;
      return; // P7: its own deadline ends the request.
    }
    this.#enqueue(packed);
  }

  #onGoodbye(params: unknown): void {
    const { code, message } = (params ?? {}) as Record<string, unknown>;
    this.#end({ code: String(code).slice(0, 64), message: String(message).slice(0, 1_024) }, 'there');
    void this.#closeStream();
  }

  readonly #onRemoteEnd = (): void => {
    this.#end(null, 'there');
    void this.#closeStream();
  };

  readonly #onClose = (_event: StreamCloseEvent): void => this.#end(null, 'there');

  #end(goodbye: Goodbye | null, by: 'here' | 'there'): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#outbox.clear();
    const why = goodbye === null ? 'the stream closed before the answer came' : goodbye.message;
    for (const request of [...this.#inFlight.values(), ...this.#waiting.values()]) {
      clearTimeout(request.timer);
      request.reject(new PeerUnreachableError(this.peer, why));
    }
    this.#inFlight.clear();
    this.#waiting.clear();
    this.#waitingBytes = 0;
    this.receiver.closed(goodbye, by);
  }

  async #closeStream(): Promise<void> {
    const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
    try {
      await this.#stream.close({ signal });
      if (this.#stream.remoteWriteStatus !== 'closed') await once(this.#stream, ['remoteCloseWrite', 'close'], signal);
    } catch (error) {
      this.#stream.abort(error instanceof Error ? error : new Error(String(error)));
    }
  }
}

/** Resolves at the first of the events; rejects when the signal aborts. */
function once(target: Stream, events: ('remoteCloseWrite' | 'close')[], signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (settle: () => void) => (): void => {
      for (const event of events) target.removeEventListener(event, happened);
      signal.removeEventListener('abort', aborted);
      settle();
    };
    const happened = stop(resolve);
    const aborted = stop(() => reject(signal.reason));
    for (const event of events) target.addEventListener(event, happened);
    signal.addEventListener('abort', aborted, { once: true });
  });
}
