/** "Did you mean": the known name that a mistyped one is closest to. */
import { closest, distance } from 'fastest-levenshtein';

/** A longer name, or one with too many names to compare it with, gets no hint: that is not worth the time. */
const COMPARED_CHARS_MAX = 128;
const COMPARED_CHARS_TIMES_NAMES_MAX = 200_000;

/** The nearest of `known` within a third of the word's length (at least 2 edits), or undefined. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  if (known.length === 0 || word.length > COMPARED_CHARS_MAX) return undefined;
  if (word.length * known.length > COMPARED_CHARS_TIMES_NAMES_MAX) return undefined;
  const best = closest(word, known);
  const edits = distance(word.toLowerCase(), best.toLowerCase());
  // A word of one or two letters is within two edits of everything short.
  const allowed = word.length <= 2 ? 1 : Math.max(2, Math.floor(word.length / 3));
  return edits <= allowed ? best : undefined;
}

/** ` (did you mean "x"?)`, or nothing when no name is near. */
export function didYouMean(word: string, known: readonly string[]): string {
  const best = nearest(word, known);
  return best === undefined ? '' : ` (did you mean "${best}"?)`;
}
