/**
 * Writes docs/configuration.md, every setting of a peer with its flag, its variable and its place in the mesh file, from
 * the schema that checks them:
 *
 *   node docs/write-configuration-page.ts
 *
 * A test fails while the committed page is not what this writes.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { COMMON_VARIABLES } from '../node/config/common-variables.ts';
import { describeOption, flagName, OPTIONS, type Option, OTHER_VARIABLES } from '../node/config/options.ts';
import { settingsSchema } from '../node/config/settings.ts';

export const CONFIGURATION_PAGE = fileURLToPath(new URL('configuration.md', import.meta.url));

const GROUPS: Record<Option['group'], string> = {
  Mesh: 'Which mesh, and how it is kept',
  Place: 'Where it is on its machine',
  Work: 'What it runs',
  Runtime: 'How it runs',
  Tuning: 'Times between peers',
};

interface Property {
  description?: string;
  type?: string;
  enum?: string[];
  items?: Property;
  default?: unknown;
  anyOf?: Property[];
  properties?: Record<string, Property>;
}

export function configurationPage(): string {
  const schema = z.toJSONSchema(settingsSchema, { io: 'input', unrepresentable: 'any' }) as Property;
  const sections = Object.entries(GROUPS).map(([group, title]) => {
    const rows = OPTIONS.filter((option) => option.group === group).map((option) => rowOf(option, schema));
    return `## ${title}\n\n${table(['setting', 'flag', 'variable', 'value', 'default', 'meaning'], rows)}\n`;
  });
  const others = Object.entries(OTHER_VARIABLES).map(([name, meaning]) => [`\`${name}\``, meaning]);
  const common = table(
    ['variable', 'meaning'],
    COMMON_VARIABLES.map(({ env, meaning }) => [`\`${env}\``, meaning]),
  );
  const fields = (name: string) => table(['field', 'value', 'meaning'], fieldsBelow(name, schema.properties![name]!));
  return `${HEAD}\n${sections.join('\n')}\n${POLICY}\n${fields('policy')}\n\n${LIMITS_KEPT}\n${TURNS}\n${fields('caller_weights')}\n\n${AUTH}\n${fields('auth')}\n\n${LIMITS}\n${fields('limits')}\n\n${COMMON}\n${common}\n\n## Other variables\n\n${table(['variable', 'meaning'], others)}\n`;
}

const HEAD = `# Settings of a peer

A peer is told about itself by flags of \`flowmesh node start\`, by variables of its environment and by a mesh file. A flag
is stronger than a variable, a variable than the file, the file than the default. A value that is not allowed is refused
with where it was given; a name that nobody knows, too, with the name that is probably meant.

The mesh file is JSON or YAML. \`--bootstrap <file>\` names it; \`--bootstrap\` alone takes \`./bootstrap.json\`, or else the
one that comes with flowmesh. A setting with a dot is a field of an object there:

\`\`\`yaml
mesh: harbour
bootstrap: [/ip4/127.0.0.1/tcp/7600]
http: { port: 7601 } # false: no MCP over HTTP
worker: { slots: 8, labels: [gpu, region=eu] }
shell: { allow: [git, rsync] }
\`\`\`

Paths in a file are relative to its folder, others to the working folder. In a variable a list is written with commas,
and an empty variable counts as not set. Commands find a peer of this machine by themselves; \`--url\`, \`--data-dir\`
and \`--mesh\`, or the variables \`FLOWMESH_URL\`, \`FLOWMESH_DATA_DIR\` and \`FLOWMESH_MESH\`, say which one.

This page is written from the schema in \`node/config/settings.ts\` by \`node docs/write-configuration-page.ts\`.
`;

const POLICY = `## Who may run what: \`policy\`

A list of rules, in the mesh file alone. The first rule whose \`from\` names the caller decides; a caller that no rule names
runs nothing here. The caller is the peer that gives out the work: the one that accepted it, or that has taken it over.

\`\`\`yaml
shell: { allow: [git, make, ffmpeg] }
policy:
  - from: [self, role:admin]
    allow: ["*"]
  - from: [12D3KooWGRUVh7Jp5kcKjC3V7CgEuKyWBaNVTWYbYQh3MGYJyKjb]
    allow: [shell:make, shell:git, "http:*.example.org"]
    limits: { memory_mb: 2048, processes: 200, wall_s: 900 }
  - from: ["*"]
    allow: [echo, fn:thumbnail]
    limits: { memory_mb: 512, cpu_s: 60, processes: 64, output_mb: 10, wall_s: 120 }
\`\`\`

A policy takes away and never adds: what \`shell.allow\`, \`http_action\` and \`functions\` do not allow runs for nobody, \`*\`
or not. Without \`policy\` they alone decide. In an open mesh everybody has every role. Other peers are told what their
work may run here and send nothing else; what comes all the same is refused, and placed elsewhere.
`;

const TURNS = `## Turns in the queue: \`caller_weights\`

In the mesh file alone, such as \`caller_weights: { "key:ci": 2 }\`: see [guarantees](guarantees.md#callers).
`;

const COMMON = `## Variables of common deployments

Platforms and images set variables by names of their own. These are taken, too; flags and \`FLOWMESH_…\` are stronger, the
mesh file is weaker. A value that is not allowed is refused with the name of its variable.
`;

const LIMITS_KEPT = `### What keeps the limits

\`limits\` are those of one attempt: a command or a call of a function, with everything that it starts. What goes over one is
ended, all of it, and fails with \`LIMIT_EXCEEDED\`, which is not tried again and names the limit, its value and its place in
the settings. \`http\` and \`echo\` start no process: they have the limits of every peer. The log says at the start what
keeps the limits that are set.

${table(
  ['limit', 'Linux, where the peer may make cgroups (v2)', 'Linux, elsewhere', 'other systems'],
  [
    [
      '`memory_mb`',
      'the kernel (`memory.max`), of all processes together',
      'the peer looks four times a second; `RLIMIT_DATA` bounds what is faster',
      'nobody',
    ],
    ['`cpu_s`', 'the peer looks; `RLIMIT_CPU` of each process', 'the same', 'nobody'],
    ['`processes`', 'the kernel (`pids.max`)', 'the peer looks', 'nobody'],
    ['`output_mb`', 'the peer, which reads it', 'the same', 'the same'],
    ['`wall_s`', 'the peer', 'the same', 'the same'],
  ],
)}

A peer may make cgroups in a systemd unit with \`Delegate=yes\` that it has for itself, or as root. Without a cgroup, a program
that leaves its session and drops its environment is not found; in a cgroup it is. A function with limits runs in a process
of its own, which takes some 0.1 s to start, and 50 MB and 12 threads for itself. This is no sandbox: an attempt reads and
writes what the user of the peer may.
`;

const LIMITS = `## How much callers may ask: \`limits\`

Only where callers are asked who they are (\`auth\`): each has these limits for itself, in the mesh file. A request beyond them
is refused with 429 and \`Retry-After\`, a call of a tool with \`RATE_LIMITED\`, and both say when to come back. Peers that
name the same Redis count together, all but open workflows, which each counts from the records that it has.

\`\`\`yaml
limits: { requests_per_second: 50, open_workflows: 200, tools: { queue_clear: 1 } }
\`\`\`
`;

const AUTH = `## Who may call: \`auth\`

\`auth: true\` or \`--auth\` has the peer ask everybody who calls over HTTP; the fields of \`auth\` in the mesh file say what they
may show. [auth.md](auth.md) is about all of it.

\`\`\`yaml
http: { host: 0.0.0.0 }
auth:
  roles: { reporter: [workflow:read, others:read] }
  jwt: { jwks_url: https://id.example.org/keys, issuer: https://id.example.org/, audience: flowmesh }
\`\`\`
`;

/** A field, and all that are in it. */
function fieldsBelow(path: string, property: Property): string[][] {
  const whole = property.anyOf?.find(({ properties }) => properties !== undefined) ?? property;
  const of = whole.items?.properties ?? whole.properties ?? {};
  const inner = Object.entries(of).flatMap(([name, each]) =>
    fieldsBelow(property.items === undefined ? `${path}.${name}` : `${path}[].${name}`, each),
  );
  return [[`\`${path}\``, wordFor(property), plain(property.description ?? '')], ...inner];
}

function wordFor({ type, items, anyOf }: Property): string {
  if (anyOf !== undefined) return anyOf.map(wordFor).join(' or ');
  if (type === 'array') return items?.type === 'object' ? 'list of rules' : 'list';
  return type === 'string' ? 'text' : (type ?? '');
}

function rowOf(option: Option, schema: Property): string[] {
  const property = propertyAt(schema, option.path);
  const description = describeOption(option.path);
  // Defaults that only the machine knows are told in words.
  const [, meaning = description, told] = /^(.*?) \(default: (.*)\)$/.exec(description) ?? [];
  return [
    `\`${option.path}\``,
    `\`${option.flag}\``,
    `\`${option.env}\``,
    allowedIn(option, property),
    plain(told ?? defaultOf(property)),
    plain(isTurnedOff(option) ? `${meaning}. The flag turns it off` : meaning),
  ];
}

const isTurnedOff = (option: Option) =>
  option.kind === 'boolean' && flagName(option).startsWith('--no-') && option.path !== 'http';

/** Markdown would take `<mesh>` for a tag. */
const plain = (text: string) => text.replaceAll('<', '\\<');

function propertyAt(schema: Property, path: string): Property {
  return path.split('.').reduce<Property>((each, key) => {
    const object =
      each.properties === undefined ? each.anyOf?.find(({ properties }) => properties !== undefined) : each;
    return object?.properties?.[key] ?? {};
  }, schema);
}

function allowedIn({ kind }: Option, property: Property): string {
  const choices = property.enum ?? property.items?.enum;
  if (choices !== undefined) return choices.map((choice) => `\`${choice}\``).join(', ');
  return { string: 'text', number: 'number', boolean: 'true or false', list: 'list' }[kind];
}

function defaultOf({ default: value }: Property): string {
  if (value === undefined) return '';
  if (Array.isArray(value) && value.length === 0) return 'none';
  if (typeof value === 'object') return '';
  return `\`${value}\``;
}

/** As Markdown that no formatter changes. */
function table(head: string[], rows: string[][]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const line = (row: string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  const rule = `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`;
  return [line(cells[0]!), rule, ...cells.slice(1).map(line)].join('\n');
}

if (import.meta.main) writeFileSync(CONFIGURATION_PAGE, configurationPage());
