/** The check of a step's resolved inputs against the schema of its action. */
import type { z } from 'zod';
import { describeProblems } from '../../dag/schema.ts';
import type { ExecutionRequest } from '../../scheduler/ports.ts';
import { InvalidPayloadError } from './errors.ts';

/** @throws InvalidPayloadError naming every problem with its place */
export function parsePayload<S extends z.ZodType>(schema: S, request: ExecutionRequest): z.output<S> {
  const checked = schema.safeParse(request.payload);
  if (checked.success) return checked.data;
  throw new InvalidPayloadError(request.action, describeProblems(checked.error, schema, request.payload));
}
