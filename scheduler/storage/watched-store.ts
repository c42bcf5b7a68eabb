/** A store that reports each failed write to one place, whichever part made it. */
import type { Store } from '../ports.ts';

/** A store as most parts see it: they do not open or close it. */
export type Writes = Pick<Store, 'feeds' | 'reader' | 'commit' | 'own' | 'drop' | 'sweep'>;

/** @param onFailure called when a write failed: the store takes no more until it has recovered */
export function watchedStore(store: Store, onFailure: (error: unknown) => void): Writes {
  const watch = (write: Promise<void>): Promise<void> =>
    write.catch((error: unknown) => {
      onFailure(error);
      throw error;
    });
  return {
    get feeds() {
      return store.feeds;
    },
    get reader() {
      return store.reader;
    },
    commit: (rows) => watch(store.commit(rows)),
    own: (feedId, owned) => watch(store.own(feedId, owned)),
    drop: (feedId) => watch(store.drop(feedId)),
    sweep: (feedId, seq) => watch(store.sweep(feedId, seq)),
  };
}
