/** What a peer says about places of a submitted file, shown where they stand in it. */
import { FlowmeshError, type JsonObject, RemoteError } from '../../dag/errors.ts';
import { printable } from '../printable.ts';
import type { SourceDocument } from './document.ts';

/** The peer's problems with the lines of the file that they are about. Another error as it is. */
export function withPlaces(error: unknown, document: SourceDocument): unknown {
  if (!(error instanceof FlowmeshError)) return error;
  const { problems, place } = error.details ?? {};
  if (Array.isArray(problems)) {
    const lines = (problems as { path: string; message: string }[]).map(({ path, message }) =>
      placed(document, path, path === '' ? message : `${path}: ${message}`),
    );
    const count = lines.length === 1 ? 'a problem' : `${lines.length} problems`;
    return new RemoteError({ ...error.toShape(), message: `${document.name} has ${count}\n${lines.join('\n')}` });
  }
  if (typeof place !== 'string' || place === '') return error;
  return new RemoteError({ ...error.toShape(), message: placed(document, place, error.message) });
}

/** The warnings of an answer, a line or more for each; without a document with their places alone. */
export function warningLines(output: JsonObject, document: SourceDocument | undefined): string[] {
  const warnings = (output['warnings'] ?? []) as { at: string; message: string }[];
  return warnings.map(({ at, message }) => {
    const text = printable(`warning: ${at}: ${message}`);
    return document === undefined ? text : placed(document, at, text);
  });
}

function placed(document: SourceDocument, path: string, text: string): string {
  const found = document.locate(path);
  return found === undefined ? text : `${found.place}: ${text}\n${found.excerpt}`;
}
