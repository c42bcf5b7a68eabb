/**
 * Preloaded into a peer (`NODE_OPTIONS=--import=…`): where it dials a port that is a key of CABLES, a JSON object, it
 * reaches the port that is its value.
 */
import { Socket } from 'node:net';

interface Target {
  port?: number | string;
}

const cables = process.env['CABLES'];
if (cables !== undefined) {
  const routes = JSON.parse(cables) as Record<string, number>;
  const connect = Socket.prototype.connect as (this: Socket, ...args: unknown[]) => Socket;
  const reroute = (target: Target): Target => {
    const port = routes[String(target?.port)];
    return port === undefined ? target : { ...target, port };
  };
  Socket.prototype.connect = function (this: Socket, ...args: unknown[]): Socket {
    const [first] = args;
    // `net.connect` hands its arguments on in an array that it has marked, which is why that one is changed in place.
    if (Array.isArray(first)) first[0] = reroute(first[0] as Target);
    else if (typeof first === 'object') args[0] = reroute(first as Target);
    return connect.apply(this, args);
  };
}
