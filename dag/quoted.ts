/** Names and texts of others inside a sentence: quoted, and cut where they are long. */

/** What is shown of a text in a sentence: any id, and of anything longer enough to find it by. */
export const QUOTED_CHARS_MAX = 128;

/** `text` in quotes, with control characters escaped and no longer than QUOTED_CHARS_MAX. */
export function quoted(text: string): string {
  return JSON.stringify(cut(text));
}

/** `text`, no longer than `charsMax`; what was cut off is marked. Half of a surrogate pair is not left over. */
export function cut(text: string, charsMax: number = QUOTED_CHARS_MAX): string {
  if (text.length <= charsMax) return text;
  return `${text.slice(0, charsMax).replace(/[\uD800-\uDBFF]$/, '')}…`;
}

/** Of them stand in one sentence. */
const NAMED_MAX = 5;

/** Names in a sentence, the first ones of many. */
export function listed(names: readonly string[]): string {
  const more = names.length - NAMED_MAX;
  return more > 0 ? `${names.slice(0, NAMED_MAX).join(', ')} and ${more} more` : names.join(', ');
}
