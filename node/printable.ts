/**
 * Text that others wrote (names, labels, errors, lines of programs), as a terminal may show it: what would move the
 * cursor, hide or reorder what stands beside it, or begin a line of its own, is shown as an escape instead.
 *
 *   printable('gone\u001b[2J'); // 'gone\x1b[2J', with a backslash
 */

/** Control characters (C0, DEL, C1), marks that reorder text, separators of lines, halves of a surrogate pair. */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu;
const SHORT_ESCAPES: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };
const BYTE_MAX = 0xff;

/** @param kept characters that stay as they are: `\n` where a text may have lines of its own */
export function printable(text: string, kept = ''): string {
  return text.replace(UNPRINTABLE, (char) => (kept.includes(char) ? char : (SHORT_ESCAPES[char] ?? escapeOf(char))));
}

/** A value as JSON that a terminal may show. */
export function printableJson(value: unknown, indent?: number): string {
  return escapedJson(JSON.stringify(value, null, indent));
}

/** The same for a text that is JSON already, which stays JSON of the same value. */
export function escapedJson(json: string): string {
  return json.replace(UNPRINTABLE, (char) => (char === '\n' ? char : `\\u${hexOf(char, 4)}`));
}

function escapeOf(char: string): string {
  return char.charCodeAt(0) <= BYTE_MAX ? `\\x${hexOf(char, 2)}` : `\\u${hexOf(char, 4)}`;
}

function hexOf(char: string, digits: number): string {
  return char.charCodeAt(0).toString(16).padStart(digits, '0');
}
