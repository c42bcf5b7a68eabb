/** What a peer and the processes that run its `fn:` handlers say to each other. */
import type { ErrorShape, JsonObject } from '../../dag/errors.ts';
import type { LogLine } from '../../scheduler/records.ts';

/** To the process. One run at a time; `abort` is about the current one. */
export type ToFunctionProcess =
  | { type: 'run'; name: string; inputs: JsonObject; uid: string; attempt: number }
  | { type: 'abort'; reason: { force: boolean } };

/** From the process. Reports of a run come before its end. */
export type FromFunctionProcess =
  | { type: 'ready'; names: string[] }
  | { type: 'broken'; message: string }
  | {
      type: 'report';
      lines: { stream: LogLine['stream']; line: string }[];
      progress: { percent: number; message: string | undefined } | null;
    }
  | { type: 'completed'; json: string }
  | { type: 'failed'; error: ErrorShape };
