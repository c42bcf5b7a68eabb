/** Names and texts from outside in a sentence: quoted, and cut when they are long. */

/** Characters of a text that a sentence shows: a whole id, or enough of a longer text to find it. */
export const QUOTED_CHARS_MAX = 128;

/** `text` in quotes, with control characters escaped and no longer than QUOTED_CHARS_MAX. */
export function quoted(text: string): string {
  return JSON.stringify(cut(text));
}

/** The first `charsMax` characters of `text`, with `…` when it was cut. A surrogate pair is never split. */
export function cut(text: string, charsMax: number = QUOTED_CHARS_MAX): string {
  if (text.length <= charsMax) return text;
  return `${text.slice(0, charsMax).replace(/[\uD800-\uDBFF]$/, '')}…`;
}

/** Names listed in one sentence. */
const NAMED_MAX = 5;

/** The first NAMED_MAX names, and how many more there are. */
export function listed(names: readonly string[], between = ', '): string {
  const more = names.length - NAMED_MAX;
  return more > 0 ? `${names.slice(0, NAMED_MAX).join(between)} and ${more} more` : names.join(between);
}
