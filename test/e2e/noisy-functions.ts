/** Handlers as careless people write them: they talk to stdout while they load and while they run. */
console.log('stray line while the module loads');

export function chatter({ text }: { text: string }) {
  console.log(`stray line from console.log: ${text}`);
  console.error(`stray line from console.error: ${text}`);
  process.stdout.write(`stray line from process.stdout.write: ${text}\n`);
  return { text };
}
