/** A process that serves the echo tools on stdio while other code of it writes to stdout, as careless code does. */
import { createLog } from '../../node/log.ts';
import { serveStdio } from '../../node/mcp/stdio.ts';
import { EchoRouter, echoTools, INFO } from './echo-router.ts';

const router = new EchoRouter();
const stdio = await serveStdio({ router, info: INFO, log: createLog({ level: 'debug' }), tools: echoTools });
console.log('stray line from console.log');
console.info('stray line from console.info');
process.stdout.write('stray line from process.stdout.write\n');
router.events.on('waiting', () => process.stdout.write('stray line during a call\n'));
router.events.on('waiting', () => setImmediate(() => router.events.emit('release')));
await stdio.closed;
console.log('stdout is given back');
