/** The other side of a run: keeps what it reports, and aborts it. */
import type { JsonObject } from '../../dag/errors.ts';
import type { ExecutionIO, ExecutionRequest, Log } from '../../scheduler/ports.ts';
import type { LogLine } from '../../scheduler/records.ts';

export class RecordedIO implements ExecutionIO {
  readonly #abort = new AbortController();
  readonly signal = this.#abort.signal;
  readonly lines: [LogLine['stream'], string][] = [];
  readonly progresses: [number, string | undefined][] = [];
  #watchers: { line: string; resolve(): void }[] = [];

  progress(percent: number, message?: string): void {
    this.progresses.push([percent, message]);
  }

  log(stream: LogLine['stream'], line: string): void {
    this.lines.push([stream, line]);
    for (const each of this.#watchers) if (line.startsWith(each.line)) each.resolve();
  }

  /** Resolves when a line that begins like this has been logged. */
  async logged(line: string): Promise<string> {
    const find = () => this.lines.find(([, each]) => each.startsWith(line))?.[1];
    if (find() === undefined) await new Promise<void>((resolve) => this.#watchers.push({ line, resolve }));
    return find()!;
  }

  abort(force: boolean): void {
    this.#abort.abort({ force });
  }
}

export function requestOf(action: string, payload: JsonObject): ExecutionRequest {
  return { uid: 'w1/step/0', attempt: 3, action, payload };
}

export const quietLog: Log = { info() {}, warn() {}, error() {}, debug() {} };
