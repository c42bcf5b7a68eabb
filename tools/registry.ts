/** The tools of flowmesh: exactly these 26, on every transport. */
import type { Tool } from './definition.ts';
import { bootstrapNetwork } from './peer/bootstrap.ts';
import { peerConnect } from './peer/connect.ts';
import { peerDisconnect } from './peer/disconnect.ts';
import { peerDiscover } from './peer/discover.ts';
import { peerList } from './peer/list.ts';
import { peerMetrics } from './peer/metrics.ts';
import { queueClear } from './queue/clear.ts';
import { queuePause } from './queue/pause.ts';
import { queueResume } from './queue/resume.ts';
import { queueStats } from './queue/stats.ts';
import { taskCancel } from './task/cancel.ts';
import { taskList } from './task/list.ts';
import { taskPriority } from './task/priority.ts';
import { taskResult } from './task/result.ts';
import { taskRetry } from './task/retry.ts';
import { taskStatus } from './task/status.ts';
import { taskSubmit } from './task/submit.ts';
import { workerRegister } from './worker/register.ts';
import { workerStatus } from './worker/status.ts';
import { workerUnregister } from './worker/unregister.ts';
import { workflowCancel } from './workflow/cancel.ts';
import { workflowDependencies } from './workflow/dependencies.ts';
import { workflowList } from './workflow/list.ts';
import { workflowResult } from './workflow/result.ts';
import { workflowStatus } from './workflow/status.ts';
import { workflowSubmit } from './workflow/submit.ts';

/** The tools by name, in the order in which clients see them listed. */
export const tools: ReadonlyMap<string, Tool> = new Map(
  [
    workflowSubmit,
    workflowStatus,
    workflowCancel,
    workflowList,
    workflowDependencies,
    workflowResult,
    taskSubmit,
    taskStatus,
    taskCancel,
    taskList,
    taskPriority,
    taskRetry,
    taskResult,
    queueStats,
    queuePause,
    queueResume,
    queueClear,
    workerRegister,
    workerUnregister,
    workerStatus,
    peerDiscover,
    peerConnect,
    peerDisconnect,
    peerList,
    peerMetrics,
    bootstrapNetwork,
  ].map((tool) => [tool.name, tool]),
);
