/**
 * The child's side of the pipes to its peer. What is sent has left when `send` returns, also when the process ends or
 * spins right after it; while the peer does not read, the sender waits and gathers nothing. Without a peer the process
 * ends.
 */
import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { encodeMessage, FROM_PEER_FD, MessageReader, TO_PEER_FD } from './child-messages.ts';

/** Before anybody else could take it away. */
const endProcess = process.exit.bind(process);
const pause = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
const PAUSE_MS = 1;

/** @param onMessage gets what the peer sends; it keeps the process alive until then */
export function listenToPeer(onMessage: (message: unknown) => void): void {
  const reader = new MessageReader(Number.POSITIVE_INFINITY, onMessage);
  const socket = new Socket({ fd: FROM_PEER_FD, readable: true, writable: false });
  socket.on('data', (chunk) => reader.push(chunk));
  socket.on('error', () => endProcess());
  socket.on('close', () => endProcess());
}

export function sendToPeer(message: unknown): void {
  const bytes = encodeMessage(message);
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(TO_PEER_FD, bytes, written);
    } catch (error) {
      // Somebody has made the pipe one that does not wait: it is waited for here.
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') Atomics.wait(pause, 0, 0, PAUSE_MS);
      else endProcess(1);
    }
  }
}
