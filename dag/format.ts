/** A workflow's graph as JSON, Graphviz DOT and Mermaid. Edges lead from a step to the steps that wait for it. */
import type { WorkflowGraph } from './graph.ts';
import type { StepStatus } from './run.ts';
import type { Workflow } from './schema.ts';

/** A status as people see it: a step whose tasks wait for a worker is `queued`, and not `running`. */
export type ShownStatus = StepStatus | 'queued';

export interface GraphNode {
  id: string;
  action: string;
  status?: ShownStatus;
}

export interface GraphJson {
  nodes: GraphNode[];
  edges: { from: string; to: string }[];
}

/** @returns undefined for a step whose status is not shown */
export type StatusOf = (step_id: string) => ShownStatus | undefined;

/** Fill colours that black text is readable on. */
const COLOURS: Record<ShownStatus, string> = {
  pending: '#eeeeee',
  ready: '#d6e4ff',
  queued: '#d6e4ff',
  running: '#8fb8ff',
  input_required: '#ffd98f',
  completed: '#a6e3a1',
  failed: '#ff9d9d',
  skipped: '#dcdcdc',
  cancelled: '#d3b8d9',
};

/** Nodes in topological order, edges by the step they lead to. */
export function toJson(workflow: Workflow, graph: WorkflowGraph, statusOf?: StatusOf): GraphJson {
  const actions = new Map(workflow.steps.map((step) => [step.step_id, step.action]));
  const nodes = graph.order.map((id): GraphNode => {
    const status = statusOf?.(id);
    return { id, action: actions.get(id)!, ...(status !== undefined && { status }) };
  });
  const edges = graph.order.flatMap((to) => graph.dependencies(to).map((from) => ({ from, to })));
  return { nodes, edges };
}

export function toDot(workflow: Workflow, graph: WorkflowGraph, statusOf?: StatusOf): string {
  const { nodes, edges } = toJson(workflow, graph, statusOf);
  const lines = [
    `digraph ${dotString(workflow.name)} {`,
    '  rankdir=LR;',
    '  node [shape=box, style="rounded,filled"];',
  ];
  for (const node of nodes) {
    const colour = COLOURS[node.status ?? 'pending'];
    lines.push(`  ${dotString(node.id)} [label=${dotString(labelOf(node, '\n'))}, fillcolor="${colour}"];`);
  }
  for (const { from, to } of edges) lines.push(`  ${dotString(from)} -> ${dotString(to)};`);
  lines.push('}', '');
  return lines.join('\n');
}

export function toMermaid(workflow: Workflow, graph: WorkflowGraph, statusOf?: StatusOf): string {
  const { nodes, edges } = toJson(workflow, graph, statusOf);
  // Mermaid reads words such as `end` in an id as its own, so nodes are numbered and named in their label.
  const names = new Map(nodes.map((node, index) => [node.id, `s${index}`]));
  const lines = ['flowchart LR'];
  for (const node of nodes) {
    const style = node.status === undefined ? '' : `:::${node.status}`;
    lines.push(`  ${names.get(node.id)}["${mermaidText(labelOf(node, '<br/>'))}"]${style}`);
  }
  for (const { from, to } of edges) lines.push(`  ${names.get(from)} --> ${names.get(to)}`);
  const used = new Set(nodes.map((node) => node.status).filter((status) => status !== undefined));
  for (const status of used) lines.push(`  classDef ${status} fill:${COLOURS[status]},color:#000000`);
  return `${lines.join('\n')}\n`;
}

function labelOf(node: GraphNode, newline: string): string {
  return `${node.id}${newline}${node.action}${node.status === undefined ? '' : `${newline}${node.status}`}`;
}

/** A quoted DOT string: there a backslash starts an escape, and a line break is written as one. */
function dotString(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`;
}

const MERMAID_ENTITIES: Record<string, string> = { '"': '#quot;', '#': '#35;', '&': '#amp;', '\n': ' ' };

/** Mermaid text: entities are written `#name;`; the line breaks put in by `labelOf` stay. */
function mermaidText(text: string): string {
  return text
    .split('<br/>')
    .map((part) => part.replace(/["#&<>\n]/g, (char) => MERMAID_ENTITIES[char] ?? (char === '<' ? '#lt;' : '#gt;')))
    .join('<br/>');
}
