/** The help of a `--no-…` option, from the sentence about what it turns off. */
export function turnedOff(description: string): string {
  return `Turn off: ${description.charAt(0).toLowerCase()}${description.slice(1)}`;
}
