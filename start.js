/**
 * `node start --bootstrap` from a checkout: Node finds this file under the name `start`.
 * The same as `npx flowmesh node start --bootstrap`.
 */
process.argv.splice(2, 0, 'node', 'start');
await import('./bin/flowmesh.js');
