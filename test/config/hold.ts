/**
 * A process that takes a data folder or a whole place, tells what it got on stdout as one line of JSON, and holds it
 * until its stdin ends. Settings as JSON in the first argument, the home folder in the second.
 */
import { takePlace } from '../../node/cli/place.ts';
import { resolveSettings } from '../../node/config/sources.ts';

const [value, home] = process.argv.slice(2) as [string, string];
const settings = resolveSettings({
  flags: {},
  env: {},
  file: { path: `${home}/bootstrap.json`, value: JSON.parse(value) },
});
try {
  const { config, folder, release } = await takePlace(settings, home);
  await folder.record({
    pid: process.pid,
    mesh: config.mesh,
    name: config.name,
    version: '1.0.0',
    started_at: new Date().toISOString(),
    peer_id: 'p',
    http_url: `http://127.0.0.1:${config.http?.port}`,
    addresses: config.listen,
    tls_cert: null,
    admin_key: null,
  });
  process.stdout.write(
    `${JSON.stringify({ path: folder.path, listen: config.listen, http: config.http, name: config.name })}\n`,
  );
  process.stdin.once('end', () => void release()).resume();
} catch (error) {
  process.stdout.write(
    `${JSON.stringify({ error: (error as { code: string }).code, message: (error as Error).message })}\n`,
  );
}
