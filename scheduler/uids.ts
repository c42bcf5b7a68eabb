/**
 * The grammar of uids, the keys of rows. Only this file builds them and takes them apart.
 *
 *   <made>                              a workflow, or a task that a client submitted (`makeUid`)
 *   <workflow>:definition               its definition
 *   <workflow>/<step>                   one of its steps
 *   <workflow>/<step>/<index>           a task of that step: its idempotency key
 *   <task>/log                          the kept lines of a task
 *   cache/<feed>/<key>                  an output that later steps with the same inputs may use
 *   feed/<feed>                         the feed itself
 *   superseded/<epoch>/<owner>/<nonce>/<uid>   what another history said of a record
 *   worker/<id>, copy/<feed>, intent/<tool>/<uid>   what a peer keeps for itself
 */

const DEFINITION = ':definition';
const CACHE = 'cache/';
const FEED = 'feed/';
const SUPERSEDED = 'superseded/';

export function definitionUid(workflowUid: string): string {
  return `${workflowUid}${DEFINITION}`;
}

/** The uid of the workflow that a definition belongs to. */
export function workflowOfDefinition(uid: string): string {
  return uid.slice(0, -DEFINITION.length);
}

export function stepUid(workflowUid: string, stepId: string): string {
  return `${workflowUid}/${stepId}`;
}

/** @param index of the item of a `foreach`, 0 for a step without one */
export function stepTaskUid(workflowUid: string, stepId: string, index: number): string {
  return `${stepUid(workflowUid, stepId)}/${index}`;
}

/** The step of the workflow that `uid` is a task of; null when `uid` is that of something else in it. */
export function stepOfTask(workflowUid: string, uid: string): string | null {
  const [step, index, ...rest] = uid.slice(workflowUid.length + 1).split('/');
  return index !== undefined && rest.length === 0 ? step! : null;
}

/** Whether `uid` is that of a workflow, or of a task that a client submitted. */
export function isRootUid(uid: string): boolean {
  return uid !== '' && containerUid(uid) === uid && !isLocalUid(uid);
}

/** What lies in a workflow, or belongs to a task, as a range of uids: from `first` on, all before `end`. */
export function partsRange(uid: string): { first: string; end: string } {
  return { first: `${uid}/`, end: `${uid}0` }; // `0` is the character after the slash
}

export function logUid(taskUid: string): string {
  return `${taskUid}/log`;
}

/** The workflow or submitted task that a record of one of them lies in; for such a workflow or task its own uid. */
export function containerUid(uid: string): string {
  return /^[^/:]*/.exec(uid)![0];
}

/** @param key a hash of the action and its inputs */
export function cacheUid(feedId: string, key: string): string {
  return `${CACHE}${feedId}/${key}`;
}

export function isCacheUid(uid: string): boolean {
  return uid.startsWith(CACHE);
}

/** Whether a cached output lies in this feed. */
export function isCachedIn(feedId: string, uid: string): boolean {
  return uid.startsWith(cacheUid(feedId, ''));
}

export function feedUid(feedId: string): string {
  return `${FEED}${feedId}`;
}

export function isFeedUid(uid: string): boolean {
  return uid.startsWith(FEED);
}

/** @param line of the history that lost */
export function supersededUid(line: { epoch: number; owner: string; nonce: string }, uid: string): string {
  return `${SUPERSEDED}${line.epoch}/${line.owner}/${line.nonce || '-'}/${uid}`;
}

export function isSupersededUid(uid: string): boolean {
  return uid.startsWith(SUPERSEDED);
}

export function workerUid(workerId: string): string {
  return `worker/${workerId}`;
}

export function copyUid(feedId: string): string {
  return `copy/${feedId}`;
}

/** Whether a uid is one of what a peer keeps for itself, and which no feed has. */
export function isLocalUid(uid: string): boolean {
  return uid === 'peer' || uid === 'queue' || /^(?:worker|copy|intent)\//.test(uid);
}

/** @param uid of the record that a client wants the tool to change */
export function intentUid(tool: string, uid: string): string {
  return `intent/${tool}/${uid}`;
}
