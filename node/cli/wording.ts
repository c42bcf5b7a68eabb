/**
 * Tools speak of tools and fields, as programs call them; a command line speaks of commands and options, as people type
 * them. Descriptions, errors and messages are told in its words.
 *
 *   inCommands('task_retry can run it; with include_logs', tools, tool) // '`flowmesh task retry` can run it; with --include-logs'
 */
import type { Tool } from '../../tools/definition.ts';

/** The words of the command: split at the first underscore. */
export function wordsOf(tool: Pick<Tool, 'name'>): { noun: string; verb: string } {
  const at = tool.name.indexOf('_');
  return { noun: tool.name.slice(0, at), verb: tool.name.slice(at + 1).replaceAll('_', '-') };
}

/**
 * @param asked the tool whose fields are meant; undefined where only tools are spoken of
 * @returns the text; what stands in double quotes is somebody's own and stays
 */
export function inCommands(text: string, tools: ReadonlyMap<string, Tool>, asked?: Tool): string {
  return outsideQuotes(withValues(text, asked), (part) =>
    part.replace(/`?\b[a-z]+(?:_[a-z]+)+\b`?/g, (quoted) => {
      const word = quoted.replaceAll('`', '');
      const tool = tools.get(word);
      if (tool !== undefined) return `\`flowmesh ${Object.values(wordsOf(tool)).join(' ')}\``;
      return asked !== undefined && word in asked.input.shape ? typed(word, asked) : quoted;
    }),
  );
}

/** `scope "mesh"`, `confirm: true`, `confirm is true`. */
function withValues(text: string, asked: Tool | undefined): string {
  if (asked === undefined) return text;
  const isField = (word: string) => word in asked.input.shape;
  return text
    .replace(/\b([a-z_]+) "([a-z]+)"/g, (all, field, value) =>
      isField(field) ? `${typed(field, asked)} ${value}` : all,
    )
    .replace(/\b([a-z_]+): true\b/g, (all, field) => (isField(field) ? typed(field, asked) : all))
    .replace(/\b([a-z_]+) is true\b/g, (all, field) => (isField(field) ? `${typed(field, asked)} is given` : all));
}

function typed(field: string, tool: Tool): string {
  if (tool.cli?.positional?.includes(field)) return `<${field}>`;
  return flagOf(field, tool.input.shape[field]?.safeParse(undefined).data === true);
}

/** @param isOn without the option; then the option turns it off */
export function flagOf(field: string, isOn = false): string {
  return `--${isOn ? 'no-' : ''}${field.replaceAll('_', '-')}`;
}

/** What a switch does, from the sentences about both its values. @param isOn without the option */
export function ofSwitch(description: string, isOn: boolean): string {
  const [, on = description, off] = /^(?:True|Must be true): (.*?)(?: False: (.*))?$/.exec(description) ?? [];
  if (!isOn) return capital(on);
  return off === undefined ? turnedOff(on) : capital(off);
}

/** The help of a `--no-…` option, from the sentence about what it turns off. */
export function turnedOff(description: string): string {
  return `Turn off: ${description.charAt(0).toLowerCase()}${description.slice(1)}`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function outsideQuotes(text: string, change: (part: string) => string): string {
  return text
    .split(/("[^"\n]*")/)
    .map((part, index) => (index % 2 === 1 ? part : change(part)))
    .join('');
}
