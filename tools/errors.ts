/** Errors of a call itself; those of the scheduler are in `scheduler/errors.ts`. */
import { FlowmeshError } from '../dag/errors.ts';
import { quoted } from '../dag/quoted.ts';
import type { Alias } from '../scheduler/messages.ts';

/** Problems that the sentence of an error spells out. */
const PROBLEMS_IN_MESSAGE = 5;
/** Problems that `details.problems` lists. */
const PROBLEMS_MAX = 50;

export interface Problem {
  /** Where in the input, e.g. `steps[2].retry.max_retries`; empty for the input as a whole. */
  path: string;
  message: string;
}

/** The input does not fit the tool's schema. Nothing was changed. */
export class InvalidInputError extends FlowmeshError {
  constructor(tool: string, problems: Problem[]) {
    const shown = problems
      .slice(0, PROBLEMS_IN_MESSAGE)
      .map(({ path, message }) => (path ? `${path}: ${message}` : message));
    const more = problems.length > shown.length ? `; and ${problems.length - shown.length} more` : '';
    super('INVALID_INPUT', `${tool}: ${shown.join('; ')}${more}`, {
      details: { tool, problems: problems.slice(0, PROBLEMS_MAX).map(({ path, message }) => ({ path, message })) },
    });
  }
}

const HOW_TO_LIST: Record<Alias['kind'], string> = {
  workflow: 'workflow_list shows those there are',
  task: 'task_list shows those there are',
  worker: 'queue_stats with include_worker_stats shows those there are',
};

/** No reachable peer knows the record. */
export class RecordNotFoundError extends FlowmeshError {
  constructor({ kind, id }: Alias) {
    super('NOT_FOUND', `no ${kind} "${id}" is known here or at any reachable peer; ${HOW_TO_LIST[kind]}`, {
      details: { kind, id },
    });
  }
}

/** The caller may see the record and not change it. Nothing was changed. */
export class NotYoursError extends FlowmeshError {
  constructor({ kind, id }: Alias) {
    super('FORBIDDEN', `${kind} "${id}" was submitted by somebody else: you may see it and not change it`, {
      details: { kind, id, permission: 'others:write' },
    });
  }
}

/** This peer never heard of the other one. */
export class PeerNotFoundError extends FlowmeshError {
  constructor(peerId: string) {
    super(
      'NOT_FOUND',
      `no peer has the id or the name ${quoted(peerId)} as far as is known here; peer_list shows the known ones, peer_discover looks for more`,
      {
        details: { kind: 'peer', id: peerId },
      },
    );
  }
}

/** Several peers have this name, or an id that ends so. */
export class AmbiguousPeerError extends FlowmeshError {
  constructor(text: string, meant: { peer_id: string; name: string | null }[]) {
    const shown = meant
      .slice(0, PROBLEMS_IN_MESSAGE)
      .map(({ peer_id, name }) => (name === null ? peer_id : `${peer_id} (${name})`));
    const more = meant.length > shown.length ? `, and ${meant.length - shown.length} more` : '';
    super(
      'AMBIGUOUS',
      `${quoted(text)} is said of ${meant.length} peers: ${shown.join(', ')}${more}. Give the whole id of one`,
      {
        details: { kind: 'peer', id: text, peer_ids: meant.slice(0, PROBLEMS_MAX).map(({ peer_id }) => peer_id) },
      },
    );
  }
}

/** `queue_clear` without `confirm: true`. */
export class ConfirmRequiredError extends FlowmeshError {
  constructor() {
    super('CONFIRM_REQUIRED', 'queue_clear removes tasks for good: send confirm: true to do it. Nothing was removed');
  }
}

/** A page of a merged list lies too deep to be merged on one peer. */
export class MergeReachError extends FlowmeshError {
  constructor(reach: number, maximum: number) {
    super(
      'LIMIT_EXCEEDED',
      `offset + limit is ${reach}; with scope "mesh" it is at most ${maximum}: use filters, or list at the peers themselves`,
      { details: { limit: 'MERGE_REACH_MAX', value: reach, maximum } },
    );
  }
}
