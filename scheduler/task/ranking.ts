/**
 * A sorted list that knows the rank of each of its items: how many come before it. Blocks of at most BLOCK_ITEMS_MAX
 * items (square-root decomposition): adding, deleting and ranking look at one block and the number of blocks, which for
 * 200,000 items takes microseconds where counting along a tree takes most of a millisecond.
 */
const BLOCK_ITEMS_MAX = 1_024;

export class Ranking<T> {
  readonly #compare: (a: T, b: T) => number;
  /** Sorted, none empty. */
  readonly #blocks: T[][] = [];

  /** @param compare a total order: 0 only for the same item */
  constructor(compare: (a: T, b: T) => number) {
    this.#compare = compare;
  }

  add(item: T): void {
    const { block, at, index } = this.#placeOf(item);
    if (block === undefined) {
      this.#blocks.push([item]);
      return;
    }
    block.splice(at, 0, item);
    if (block.length > BLOCK_ITEMS_MAX) this.#blocks.splice(index + 1, 0, block.splice(block.length >> 1));
  }

  delete(item: T): void {
    const { block, at, index } = this.#placeOf(item);
    if (block?.[at] === undefined || this.#compare(block[at], item) !== 0) return;
    block.splice(at, 1);
    if (block.length === 0) this.#blocks.splice(index, 1);
  }

  /** How many items come before this one, which need not be in the list. */
  rank(item: T): number {
    const { at, index } = this.#placeOf(item);
    let before = at;
    for (let earlier = 0; earlier < index; earlier++) before += this.#blocks[earlier]!.length;
    return before;
  }

  /** The block where an item belongs (the last one when it comes after all others), and its place in that block. */
  #placeOf(item: T): { block: T[] | undefined; index: number; at: number } {
    const found = firstIndex(this.#blocks.length, (index) => this.#compare(this.#blocks[index]!.at(-1)!, item) >= 0);
    const index = Math.max(Math.min(found, this.#blocks.length - 1), 0);
    const block = this.#blocks[index];
    if (block === undefined) return { block, index, at: 0 };
    return { block, index, at: firstIndex(block.length, (position) => this.#compare(block[position]!, item) >= 0) };
  }
}

/** The first of `length` indexes where `holds` is true, or `length`. It must be true for all indexes after that one. */
function firstIndex(length: number, holds: (index: number) => boolean): number {
  let from = 0;
  let to = length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (holds(middle)) to = middle;
    else from = middle + 1;
  }
  return from;
}
