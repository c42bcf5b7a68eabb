/**
 * Tasks or workflows that have not ended, in the memory of their owner, by their uid and by the id that people know.
 * Two records may have the same id for a while, such as a task of a step and a task that a client gave the same name:
 * the id then finds the one that got it last.
 */
import { idOf, type Root } from './aliases.ts';

export class LiveRecords<T extends { readonly record: Root }> {
  readonly #byUid = new Map<string, T>();
  /** Uids by id, only of records in `#byUid`. */
  readonly #uids = new Map<string, string>();

  get size(): number {
    return this.#byUid.size;
  }

  has(uid: string): boolean {
    return this.#byUid.has(uid);
  }

  get(uid: string): T | undefined {
    return this.#byUid.get(uid);
  }

  /** @param id the `task_id` or `workflow_id` */
  byId(id: string): T | undefined {
    const uid = this.#uids.get(id);
    return uid === undefined ? undefined : this.#byUid.get(uid);
  }

  values(): MapIterator<T> {
    return this.#byUid.values();
  }

  add(live: T): void {
    this.#byUid.set(live.record.uid, live);
    this.#uids.set(idOf(live.record), live.record.uid);
  }

  /** The id finds nothing from now on, unless another record has got it meanwhile. */
  delete({ record }: T): void {
    this.#byUid.delete(record.uid);
    this.#forget(idOf(record), record.uid);
  }

  /** @param before the id of the record until now */
  renamed(before: string, { record }: T): void {
    this.#forget(before, record.uid);
    this.#uids.set(idOf(record), record.uid);
  }

  #forget(id: string, uid: string): void {
    if (this.#uids.get(id) === uid) this.#uids.delete(id);
  }

  clear(): void {
    this.#byUid.clear();
    this.#uids.clear();
  }
}
