/**
 * A tool's input schema as options of a command line: `status_filter` becomes `--status-filter <text>`, a list is a
 * repeated option, an object is JSON (or `@file` with JSON in it), a switch that is on by itself gets a `--no-…`.
 */
import { readFileSync } from 'node:fs';
import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import { z } from 'zod';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { faultText } from '../../dag/json.ts';
import { parseJson } from '../../dag/json-text.ts';
import { describeProblems } from '../../dag/schema.ts';
import type { Tool } from '../../tools/definition.ts';
import { tools } from '../../tools/registry.ts';
import { UsageError } from './exit.ts';
import { flagOf, inCommands, ofSwitch } from './wording.ts';

type Kind = 'text' | 'number' | 'switch' | 'json' | 'list';

export interface ToolField {
  /** In the tool's input: `status_filter`. */
  name: string;
  kind: Kind;
  /** What an item of a list is. */
  item: 'text' | 'number' | 'json';
  description: string;
  required: boolean;
  choices: string[] | undefined;
  default: JsonValue | undefined;
}

interface Property {
  type?: string;
  enum?: JsonValue[];
  const?: JsonValue;
  anyOf?: Property[];
  items?: Property;
  default?: JsonValue;
  description?: string;
}

/** The fields of a tool's input, in the order of its schema. */
export function fieldsOf(tool: Tool): ToolField[] {
  const schema = z.toJSONSchema(tool.input, { io: 'input', unrepresentable: 'any' }) as {
    properties?: Record<string, Property>;
    required?: string[];
  };
  return Object.entries(schema.properties ?? {}).map(([name, property]) => {
    const kind = kindOf(property);
    const itemKind = property.items === undefined ? 'text' : kindOf(property.items);
    return {
      name,
      // A list of objects is written as one JSON value.
      kind: kind === 'list' && itemKind === 'json' ? 'json' : kind,
      item: itemKind === 'number' || itemKind === 'json' ? itemKind : 'text',
      description: inCommands(property.description ?? '', tools, tool),
      required: schema.required?.includes(name) ?? false,
      choices: choicesOf(kind === 'list' ? property.items : property),
      default: property.default,
    };
  });
}

/** Adds the positional arguments and options of `fields` to a command. */
export function addFields(command: Command, fields: ToolField[], positional: string[]): void {
  for (const name of positional) {
    const field = fields.find((each) => each.name === name);
    if (field === undefined) continue;
    const argument = new Argument(field.required ? `<${name}>` : `[${name}]`, field.description);
    if (field.choices !== undefined) argument.choices(field.choices);
    else argument.argParser((text: string) => valueFrom(field, text));
    command.addArgument(argument);
  }
  for (const field of fields) if (!positional.includes(field.name)) command.addOption(optionOf(field));
}

/** The tool's input from what commander parsed: only what was given, so that the peer's own defaults hold. */
export function inputOf(command: Command, fields: ToolField[], positional: string[]): JsonObject {
  const input: JsonObject = {};
  positional.forEach((name, index) => {
    const value = command.processedArgs[index] as JsonValue | undefined;
    if (value !== undefined && fields.some((field) => field.name === name)) input[name] = value;
  });
  for (const field of fields) {
    if (positional.includes(field.name)) continue;
    const attribute = attributeOf(field.name);
    if (command.getOptionValueSource(attribute) === 'cli')
      input[field.name] = command.getOptionValue(attribute) as JsonValue;
  }
  return input;
}

/** @throws UsageError naming the options as they are typed; nothing needs to be sent to know this. */
export function checkInput(tool: Tool, input: JsonObject, positional: string[]): void {
  const checked = tool.input.safeParse(input);
  if (checked.success) return;
  const lines = describeProblems(checked.error, tool.input, input).map(({ path, message }) => {
    const [, field, rest] = /^([a-z_]*)(.*)$/.exec(path)!;
    if (!field) return typed(message, tool);
    const name = positional.includes(field) ? `<${field}>` : flagOf(field);
    return `${name}${rest}: ${message}`;
  });
  throw new UsageError(lines.join('\n'));
}

/** The same of the options alone, where a file has the rest. */
export function checkOptions(tool: Tool, input: JsonObject): void {
  const shape = Object.fromEntries(Object.entries(tool.input.shape).filter(([name]) => name in input));
  checkInput({ ...tool, input: z.strictObject(shape) }, input, []);
}

/** A sentence about the input as a whole, with the flags in place of the fields' names. */
function typed(message: string, tool: Tool): string {
  return message.replace(/\b[a-z]+(?:_[a-z]+)*\b/g, (word) => (word in tool.input.shape ? flagOf(word) : word));
}

function optionOf(field: ToolField): Option {
  const flag = flagOf(field.name);
  const description = describe(field);
  if (field.kind === 'switch') {
    return field.default === true
      ? new Option(flagOf(field.name, true), description)
      : mandatory(new Option(flag, description), field);
  }
  const value = { text: 'text', number: 'number', json: 'json', list: field.item === 'number' ? 'number' : 'text' }[
    field.kind
  ];
  const option = mandatory(
    new Option(`${flag} <${field.choices === undefined ? value : 'choice'}>`, description),
    field,
  );
  // The parser below checks them, with the items of a list one by one; this names them to whoever completes commands.
  if (field.choices !== undefined) option.choices(field.choices);
  if (field.kind === 'list') {
    return option.argParser((text: string, earlier: JsonValue[] | undefined) => [
      ...(earlier ?? []),
      valueFrom(field, text),
    ]);
  }
  return option.argParser((text: string) => valueFrom(field, text));
}

function mandatory(option: Option, field: ToolField): Option {
  return field.required ? option.makeOptionMandatory() : option;
}

function describe(field: ToolField): string {
  const notes: string[] = [];
  if (field.kind === 'list') notes.push('may be repeated');
  if (field.kind === 'json') notes.push('JSON, or @file');
  const standard = field.default;
  const empty = standard === undefined || standard === false || standard === true || isEmpty(standard);
  if (!empty) notes.push(`default: ${typeof standard === 'string' ? standard : JSON.stringify(standard)}`);
  const said = field.kind === 'switch' ? ofSwitch(field.description, standard === true) : field.description;
  const text = said.replace(/\.$/, '');
  return notes.length === 0 ? text : `${text} (${notes.join('; ')})`.trim();
}

function isEmpty(value: JsonValue): boolean {
  return value === null || value === '' || (typeof value === 'object' && Object.keys(value).length === 0);
}

function valueFrom(field: ToolField, text: string): JsonValue {
  if (field.choices !== undefined && !field.choices.includes(text)) {
    throw new InvalidArgumentError(`Allowed choices are ${field.choices.join(', ')}.`);
  }
  const kind = field.kind === 'list' ? field.item : field.kind;
  if (kind === 'number') return numberOf(text);
  return kind === 'json' ? jsonOf(text) : text;
}

function numberOf(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It must be a number.');
  return value;
}

function jsonOf(text: string): JsonValue {
  const source = text.startsWith('@') ? fileText(text.slice(1)) : text;
  let read: ReturnType<typeof parseJson>;
  try {
    read = parseJson(source);
  } catch (error) {
    throw new InvalidArgumentError(`It must be JSON: ${(error as Error).message}`);
  }
  if ('value' in read) return read.value;
  throw new InvalidArgumentError(`${faultText(read.fault)}.`);
}

function fileText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new InvalidArgumentError(`${path} cannot be read: ${(error as Error).message}`);
  }
}

function kindOf(property: Property): Kind {
  const plain = property.anyOf?.filter((each) => each.type !== 'null');
  if (plain?.length === 1) return kindOf(plain[0]!);
  if (property.type === 'boolean' || typeof property.const === 'boolean') return 'switch';
  if (property.type === 'integer' || property.type === 'number') return 'number';
  if (property.type === 'string') return 'text';
  return property.type === 'array' ? 'list' : 'json';
}

function choicesOf(property: Property | undefined): string[] | undefined {
  const found = property?.enum ?? property?.anyOf?.find((each) => each.enum !== undefined)?.enum;
  return found?.map(String);
}

/** As commander names the value of `--status-filter`. */
function attributeOf(field: string): string {
  return field.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}
