/**
 * What a client's model is told before it has read any tool, and often all that it reads: how a workflow is written, what
 * the expression language does differently from what models write by habit, and how an approval is answered. Clients cut
 * it at INSTRUCTIONS_CHARS_MAX.
 */

/** The workflow of the instructions; a test submits it. */
export const EXAMPLE = {
  name: 'print',
  input: { title: 'hello' },
  steps: [
    { step_id: 'draft', action: 'echo', inputs: { text: '${ $uppercase(input.title) }' } },
    {
      step_id: 'review',
      action: 'approve',
      depends_on: ['draft'],
      on_failure: 'continue',
      inputs: { message: 'Print ${ steps.draft.output.text }?' },
    },
    {
      step_id: 'print',
      action: 'echo',
      depends_on: ['draft', 'review'],
      when: '${ steps.review.status = "completed" }',
      inputs: { text: '${ steps.draft.output.text }' },
    },
  ],
  output: '${ steps.print.output.text }',
};

export const INSTRUCTIONS = `flowmesh runs workflows (steps that wait for each other) and single tasks on a mesh of peers; any peer answers for any record. workflow_submit (task_submit for one action), then workflow_status, then workflow_result. A failed call has isError and error: code, message, retryable.

Actions of a step: shell, http, echo, sleep, approve, workflow, fn:<name>. The field \`action\` of workflow_submit says what each takes and returns; peer_list says who offers what.

Strings may hold \${ … }: JSONata over input.<name>, steps.<step_id>.output, .status and .error (of steps in depends_on), and in foreach item and index. Three traps:
1. A path with one match gives that match, not a list of one: steps.a.output.lines[] stays a list.
2. Missing data gives nothing (null), not an error: test it with $exists(…).
3. It is not JavaScript: = and != compare, \`and\` and \`or\`, $not(…), & joins strings, c ? a : b, functions begin with $ ($count(list), $length(text), $sum, $uppercase).

Approvals: a step of action approve waits as input_required until a person answers; no tool does. Give the person its task id, <workflow_id>:<step_id>, and: flowmesh task answer <task_id> --approve --data '{"by":"Ada"}' (or --reject). Approved, its output is { approved, data }. Rejected, it fails (REJECTED) and the run with it, or goes on with on_failure: continue.

Example: ${JSON.stringify(EXAMPLE)}`;
