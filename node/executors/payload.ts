/** The check of a step's resolved inputs against the schema of its action. */
import { z } from 'zod';
import { describeProblems } from '../../dag/schema.ts';
import type { ExecutionRequest } from '../../scheduler/ports.ts';
import { InvalidPayloadError } from './errors.ts';

/** An object with names of its own, each checked by `problemOf` (null: fine). zod would not say what a key lacks. */
export function namedValues<V extends z.ZodType>(value: V, problemOf: (name: string) => string | null) {
  return z.record(z.string(), value).superRefine((values, context) => {
    for (const name of Object.keys(values)) {
      const message = problemOf(name);
      if (message !== null) context.addIssue({ code: 'custom', path: [name], message });
    }
  });
}

/** @throws InvalidPayloadError naming every problem with its place */
export function parsePayload<S extends z.ZodType>(schema: S, request: ExecutionRequest): z.output<S> {
  const checked = schema.safeParse(request.payload);
  if (checked.success) return checked.data;
  throw new InvalidPayloadError(request.action, describeProblems(checked.error, schema, request.payload));
}
