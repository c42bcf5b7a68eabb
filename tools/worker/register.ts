/** `worker_register`: more slots, or slots for other work, on this peer. */
import { z } from 'zod';
import { jsonObject } from '../../dag/json.ts';
import { idSchema } from '../../dag/schema.ts';
import { WORKER_SLOTS_MAX } from '../../scheduler/limits.ts';
import { defineMeshTool } from '../definition.ts';

const CAPABILITIES_MAX = 256;
const CAPABILITY_CHARS_MAX = 256;
const SLOTS_DEFAULT = 5;

export const workerRegister = defineMeshTool({
  name: 'worker_register',
  title: 'Register a worker',
  description:
    'Adds a named pool of execution slots to the peer that is asked, with the capabilities it offers to the mesh. Use it to give a peer a pool of its own for some kind of work, e.g. two slots for the label `gpu`. Among the capabilities an action this peer can run (`shell`, `fn:resize`) lets the worker run it; anything else is a label that tasks can require. The worker takes work at once, from all peers of the mesh, also after a restart.',
  input: z.strictObject({
    worker_id: idSchema.describe('Its name, unique in the mesh.'),
    capabilities: z
      .array(z.string().min(1).max(CAPABILITY_CHARS_MAX))
      .min(1, { error: 'must name at least one action or label' })
      .max(CAPABILITIES_MAX)
      .describe(
        'What it offers: actions this peer can run (`shell`, `fn:<name>`), and labels (anything else, e.g. `gpu`).',
      ),
    max_concurrent_tasks: z
      .number()
      .int()
      .min(1)
      .max(WORKER_SLOTS_MAX)
      .default(SLOTS_DEFAULT)
      .describe('Its slots: how many tasks it runs at a time.'),
    resource_limits: z
      .strictObject({
        cpu_cores: z.number().positive().optional().describe('Cores, for tasks that require some.'),
        memory_gb: z.number().positive().optional().describe('Memory in GB, for tasks that require some.'),
      })
      .default({})
      .describe('What tasks on it may require; a task that requires more than is stated here is not placed on it.'),
    metadata: jsonObject.default({}).describe('Kept with the worker, not interpreted.'),
  }),
  output: z.object({
    worker_id: z.string(),
    status: z.enum(['active', 'draining', 'offline']).describe('`active`: it takes work.'),
    registered_at: z.string().describe('ISO 8601 UTC.'),
    assigned_peers: z.array(z.string()).describe('The peer it belongs to.'),
  }),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'worker:write',
  cli: { positional: ['worker_id'] },
  async handler({ resource_limits, ...rest }, { scheduler, self }) {
    const { cpu_cores = null, memory_gb = null } = resource_limits;
    const record = await scheduler.registerWorker({ ...rest, resource_limits: { cpu_cores, memory_gb } });
    const { worker_id, status, registered_at } = record;
    return { worker_id, status, registered_at, assigned_peers: [self] };
  },
});
