import { describe, expect, it } from 'vitest';
import { toDot, toJson, toMermaid } from '../../dag/format.ts';
import { WorkflowGraph } from '../../dag/graph.ts';
import { parseWorkflow } from '../../dag/schema.ts';

const workflow = parseWorkflow({
  name: 'a "quoted" \\ name',
  steps: [
    { step_id: 'end', action: 'fn:say"hi"', depends_on: ['start'] },
    { step_id: 'start', action: 'echo' },
  ],
});
const graph = new WorkflowGraph(workflow.steps);
const status = (id: string) => (id === 'start' ? ('completed' as const) : undefined);

describe('formats', () => {
  it('json', () => {
    expect(toJson(workflow, graph, status)).toEqual({
      nodes: [
        { id: 'start', action: 'echo', status: 'completed' },
        { id: 'end', action: 'fn:say"hi"' },
      ],
      edges: [{ from: 'start', to: 'end' }],
    });
  });

  it('dot, with everything quoted', () => {
    expect(toDot(workflow, graph, status).split('\n')).toEqual([
      'digraph "a \\"quoted\\" \\\\ name" {',
      '  rankdir=LR;',
      '  node [shape=box, style="rounded,filled"];',
      '  "start" [label="start\\necho\\ncompleted", fillcolor="#a6e3a1"];',
      '  "end" [label="end\\nfn:say\\"hi\\"", fillcolor="#eeeeee"];',
      '  "start" -> "end";',
      '}',
      '',
    ]);
  });

  it('mermaid, where no step id is read as a word of the language', () => {
    expect(toMermaid(workflow, graph, status).split('\n')).toEqual([
      'flowchart LR',
      '  s0["start<br/>echo<br/>completed"]:::completed',
      '  s1["end<br/>fn:say#quot;hi#quot;"]',
      '  s0 --> s1',
      '  classDef completed fill:#a6e3a1,color:#000000',
      '',
    ]);
  });
});
