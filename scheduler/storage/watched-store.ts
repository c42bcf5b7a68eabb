/** A store whose failures are told to one place, whoever runs into them. */
import type { Store } from '../ports.ts';

/** A store as its users see it; opening and closing is its keeper's. */
export type Writes = Pick<Store, 'feeds' | 'reader' | 'commit' | 'own' | 'drop' | 'sweep'>;

/** @param onFailure a write failed: the store takes none until it has recovered */
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
