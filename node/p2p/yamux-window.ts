/** The receive window of a stream of @libp2p/yamux. */
import type { Stream } from '@libp2p/interface';

/** The part of @libp2p/yamux's stream that `spareWindowUpdates` touches. */
interface YamuxWindow {
  recvWindow: number;
  recvWindowCapacity: number;
  sendWindowUpdate(): void;
}

/**
 * Lets the receive window be half used before it is opened again. @libp2p/yamux answers each piece of data with a
 * window update of its own, encrypted and written to the socket: for small messages as much work as the message.
 * A stream of another muxer is left as it is.
 */
export function spareWindowUpdates(stream: Stream): void {
  const window = stream as unknown as Partial<YamuxWindow>;
  const update = window.sendWindowUpdate;
  if (typeof update !== 'function' || typeof window.recvWindow !== 'number') return;
  window.sendWindowUpdate = () => {
    if (window.recvWindowCapacity! <= window.recvWindow! / 2) update.call(stream);
  };
}
