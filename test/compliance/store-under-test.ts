import type { Store } from '../../scheduler/ports.ts';

/** What each compliance test of the Store port gets anew. */
export interface StoreUnderTest {
  store: Store;
  /** Closes the store and opens what it kept. */
  restart(): Promise<Store>;
  cleanup(): Promise<void>;
}
