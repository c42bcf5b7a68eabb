import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const SESSION = new URL('../../node/mcp/session.ts', import.meta.url).href;

/** Imports what a peer imports for MCP, in a process of its own, and lists the files that were read. */
const SCRIPT = `
  import { registerHooks } from 'node:module';
  const read = [];
  registerHooks({ load: (url, context, next) => (read.push(url), next(url, context)) });
  await import('${SESSION}');
  const forMcp = read.splice(0);
  await import('mcp-proxy');
  console.log(JSON.stringify({ forMcp, after: read }));
`;

it('a peer loads fastmcp without the HTTP server that it does not start, and hides it from nobody else', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', SCRIPT]);
  const { forMcp, after } = JSON.parse(stdout) as { forMcp: string[]; after: string[] };
  const isProxy = (url: string) => url.includes('/node_modules/mcp-proxy/');
  expect(forMcp.some((url) => url.includes('/node_modules/fastmcp/'))).toBe(true);
  expect(forMcp.filter(isProxy)).toEqual([]);
  expect(after.some(isProxy)).toBe(true);
});
