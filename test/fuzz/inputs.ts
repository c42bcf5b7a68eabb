/** Inputs that nobody wrote with care: deep, wide, long, with odd numbers and odd names, as values, as text and as bytes. */
import fc from 'fast-check';
import { Packr } from 'msgpackr/pack';
import { JSON_DEPTH_MAX, JSON_ELEMENTS_MAX, JSON_NAMES_MAX } from '../../dag/limits.ts';
import { tools } from '../../tools/registry.ts';

const NAMES = [
  '__proto__',
  'constructor',
  'toString',
  'toJSON',
  'hasOwnProperty',
  'then',
  '',
  ' ',
  '0',
  '-1',
  'a.b',
  'a[0]',
  '\0',
  '\u202e',
  '\ud800',
  '💥',
  '"',
  '${ x }',
];
const NUMBERS = [0, -0, 2 ** 53, 2 ** 53 + 2, -(2 ** 63), 1e21, 5e-324, 1.7e308, Number.MAX_SAFE_INTEGER, 0.1];
/** What is no JSON, though it may come over a channel between processes. */
const STRANGE = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  3544790567247868102n,
  undefined,
  new Date(0),
  new Map([[1, 2]]),
  new Uint8Array(3),
  Symbol('s'),
  () => 1,
];
const STRINGS = [
  '',
  '${ ',
  '${ }',
  '$${',
  '${ input.a }',
  '${ $error("x") }',
  '{{ x }}',
  '\ud800',
  '\0\x1b[31m',
  'null',
  '1e400',
  'true',
];

const name = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...NAMES) },
  fc.string({ maxLength: 10 }),
  fc.constantFrom('x'.repeat(5_000)),
);
const scalar = fc.oneof(
  fc.constantFrom(null, true, false),
  fc.constantFrom(...NUMBERS),
  fc.double(),
  fc.constantFrom(...STRINGS),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.nat(5_000).map((length) => 'x'.repeat(length)),
);
const objectOf = (value: fc.Arbitrary<unknown>) =>
  fc.array(fc.tuple(name, value), { maxLength: 4 }).map((entries) => {
    const object: Record<string, unknown> = {};
    // As JSON.parse does it: a field, whatever its name.
    for (const [key, item] of entries)
      Object.defineProperty(object, key, { value: item, enumerable: true, configurable: true, writable: true });
    return object;
  });
const deep = fc.tuple(fc.oneof(fc.nat(2 * JSON_DEPTH_MAX), fc.nat(20_000)), fc.boolean()).map(([levels, asObject]) => {
  let value: unknown = 1;
  for (let level = 0; level < levels; level++) value = asObject ? { a: value } : [value];
  return value;
});
const wide = fc
  .tuple(
    fc.oneof({ weight: 200, arbitrary: fc.nat(500) }, fc.constantFrom(JSON_ELEMENTS_MAX - 2, JSON_ELEMENTS_MAX + 2)),
    fc.constantFrom({}, [], 0, 'x'),
  )
  .map(([length, item]) => Array.from({ length }, () => item));
const named = fc
  .oneof({ weight: 200, arbitrary: fc.nat(200) }, fc.constantFrom(JSON_NAMES_MAX + 1))
  .map((count) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`n${index}`, index])));

const tree = (leaf: fc.Arbitrary<unknown>) =>
  fc.letrec<{ node: unknown }>((tie) => ({
    node: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      { weight: 6, arbitrary: leaf },
      { weight: 2, arbitrary: fc.array(tie('node'), { maxLength: 4 }) },
      { weight: 2, arbitrary: objectOf(tie('node')) },
      deep,
      wide,
      named,
    ),
  })).node;

/** What JSON.parse can give. */
export const json = tree(scalar);
/** What a channel between processes or event loops can give. */
export const anything = tree(fc.oneof({ weight: 4, arbitrary: scalar }, fc.constantFrom(...STRANGE)));

const STEP = { step_id: 'a', action: 'echo', inputs: { x: '${ input.a }' }, depends_on: [], retry: { max_retries: 1 } };
const WORKFLOW = {
  name: 'w',
  input: { a: 1 },
  steps: [STEP, { ...STEP, step_id: 'b', depends_on: ['a'], foreach: [1, 2], when: true }],
  output: '${ steps.a.output }',
  metadata: {},
  tags: ['t'],
};
const FIELDS: Record<string, unknown> = {
  task_type: 'echo',
  payload: { a: 1 },
  workflow_id: 'w',
  task_id: 't',
  worker_id: 'v',
  capabilities: ['gpu'],
  confirm: true,
};

function isContainer(value: unknown): value is object {
  return Array.isArray(value) || Object.prototype.toString.call(value) === '[object Object]';
}

/** A good value with something else at one to three places of it. */
const spoilt = (good: unknown, bad: fc.Arbitrary<unknown>) =>
  fc
    .array(fc.tuple(fc.array(fc.nat(50), { maxLength: 5 }), bad, name, fc.boolean()), { minLength: 1, maxLength: 3 })
    .map((changes) => {
      const value = structuredClone(good) as Record<string, unknown>;
      for (const [way, item, key, isNew] of changes) {
        let holder: Record<string, unknown> = value;
        let keys = Object.keys(holder);
        for (const turn of way) {
          const next = holder[keys[turn % Math.max(1, keys.length)]!];
          if (!isContainer(next) || Object.keys(next).length === 0) break;
          holder = next as Record<string, unknown>;
          keys = Object.keys(holder);
        }
        const at = isNew && !Array.isArray(holder) ? key : keys[(way[0] ?? 0) % Math.max(1, keys.length)]!;
        Object.defineProperty(holder, at ?? key, { value: item, enumerable: true, configurable: true, writable: true });
      }
      return value;
    });

/** A tool, and arguments that look like its own, or like nothing. */
export const toolCall = fc.constantFrom(...tools.keys()).chain((tool) => {
  const known = Object.fromEntries(
    Object.keys(tools.get(tool)!.input.shape).flatMap((field) => (field in FIELDS ? [[field, FIELDS[field]]] : [])),
  );
  const good = tool === 'workflow_submit' ? WORKFLOW : known;
  return fc.record({
    tool: fc.constant(tool),
    input: fc.oneof(
      { weight: 3, arbitrary: spoilt(good, anything) },
      { weight: 3, arbitrary: spoilt(good, json) },
      anything,
    ),
  });
});

/** JSON as a careless program writes it: numbers of any size among the values. */
const LITERALS = ['3544790567247868102', '-9007199254740993', '1e400', '-1e999', '1E+5', '0.1e-400', '9'.repeat(400)];
export const jsonText = fc
  .tuple(
    fc.oneof({ weight: 3, arbitrary: spoilt(WORKFLOW, json) }, json),
    fc.constantFrom(null, ...LITERALS),
    fc.option(fc.tuple(fc.nat(), fc.string({ maxLength: 3 })), { freq: 3 }),
  )
  .map(([value, literal, slip]) => {
    let text = writtenOf(value);
    if (literal !== null) text = text.replace(/\b1\b/, literal);
    if (slip === null) return text;
    const at = slip[0] % (text.length + 1);
    return text.slice(0, at) + slip[1] + text.slice(at + slip[1].length);
  });

/** JSON.stringify recurses; a text that is too deep for it is one that a program may write all the same. */
function writtenOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'null';
  } catch {
    return `${'['.repeat(30_000)}1${']'.repeat(30_000)}`;
  }
}

const YAML = [
  'a: &a [1]\nb: [*a, *a]\n',
  'a: .inf\n',
  'a: .nan\n',
  'a: 0xffffffffffffffffff\n',
  '? [a]\n: b\n',
  '<<: *x\n',
  'a: !!binary aGk=\n',
  '!!set {a}\n',
  '--- a\n--- b\n',
  '%TAG ! x\n',
  '\t- a\n',
  `${'- '.repeat(3_000)}a\n`,
  'a: >-\n  x\n',
  '"\\ud800": 1\n',
  'a: 2020-01-01\n',
];
/** The reader of YAML takes seconds for the largest files. */
const FILE_CHARS_MAX = 50_000;
export const fileText = fc.oneof(
  { weight: 3, arbitrary: jsonText.filter((text) => text.length < FILE_CHARS_MAX) },
  {
    weight: 2,
    arbitrary: fc.array(fc.constantFrom(...YAML), { maxLength: 4 }).map((parts) => `name: w\n${parts.join('')}`),
  },
  fc.string({ unit: 'binary', maxLength: 100 }),
);

const packr = new Packr({ useRecords: false, variableMapSize: true });
function packed(value: unknown): Buffer {
  try {
    return packr.pack(value);
  } catch {
    return Buffer.alloc(20_000, 0x91); // too deep for the packer too
  }
}
const METHODS = [
  'hello',
  'beat',
  'lease',
  'result',
  'progress',
  'push',
  'handover',
  'call',
  'locate',
  'reserve',
  'takeover',
  'nonsense',
];
/** What a message may hold: a frame of it is packed well, or cut, or of other bytes. */
export const peerMessage = fc.record({
  id: fc.option(fc.nat(), { nil: undefined }),
  method: fc.constantFrom(...METHODS),
  params: anything,
});
export const frameBody = fc.oneof(
  { weight: 4, arbitrary: peerMessage.map(packed) },
  {
    weight: 2,
    arbitrary: fc.tuple(peerMessage.map(packed), fc.nat(), fc.nat(255)).map(([bytes, at, byte]) => {
      const changed = Buffer.from(bytes);
      if (changed.length > 0) changed[at % changed.length] = byte;
      return changed;
    }),
  },
  fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  fc
    .tuple(fc.constantFrom(0x80, 0x90, 0x91, 0x81, 0xdd, 0xdf, 0xc0), fc.nat(200_000))
    .map(([byte, size]) => Buffer.alloc(size, byte)),
);

const MESSAGES = [
  { type: 'ready', names: ['a'] },
  { type: 'begun', run: 1 },
  { type: 'report', run: 1, lines: [{ stream: 'stdout', line: 'x' }], progress: { percent: 5 } },
  { type: 'completed', run: 1, json: '{}' },
  { type: 'failed', run: 1, error: { code: 'X', message: 'x', retryable: true, details: {} } },
  { type: 'stray', uid: null, message: 'x' },
];
export const childMessage = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...MESSAGES).chain((good) => spoilt(good, anything)) },
  anything,
);
