/**
 * A process that commits until it is killed, and says which commits were acknowledged: one line for each on stdout.
 *
 *   node test/store/commit-for-ever.ts <data file> <thread|inline>
 */
import { writeSync } from 'node:fs';
import { openSqliteStore } from '../../node/store/store.ts';
import { quiet } from './quiet-log.ts';
import { FEED, row, task } from './sample-rows.ts';

/** Commits under way at a time, so that they are written in groups. */
const IN_FLIGHT = 8;
export const ROWS_PER_COMMIT = 5;

async function commitForEver(path: string, inline: boolean): Promise<never> {
  const store = await openSqliteStore({ path, inline, log: quiet });
  await store.own(FEED, true);
  let seq = store.feeds.get(FEED)!.seq;
  const next = async (): Promise<never> => {
    for (;;) {
      seq += 1;
      const mine = seq;
      const rows = Array.from({ length: ROWS_PER_COMMIT }, (_, n) => row(mine, task(`${mine}-${n}`)));
      // Half of the writes change a record that many commits write, as progress does.
      rows.push(row(mine, task('shared', { progress: mine })));
      await store.commit(rows);
      writeSync(1, `${mine}\n`);
    }
  };
  return (await Promise.all(Array.from({ length: IN_FLIGHT }, next)))[0]!;
}

if (import.meta.main) await commitForEver(process.argv[2]!, process.argv[3] === 'inline');
