/**
 * The published fields of the tools, written out by hand: what clients rely on. A field may be added to an output;
 * nothing here may change its name or vanish, and no input field may be added without being added here.
 *
 * `*` marks a required input, `=x` a default.
 */
export const PUBLISHED: [tool: string, input: string, output: string][] = [
  [
    'workflow_submit',
    'workflow_id name* steps* input={} output priority=1 tags=[] dependencies=[] metadata={} copies require_copies=false',
    'workflow_id status peer_assigned estimated_start_time durability duplicate warnings message',
  ],
  [
    'workflow_status',
    'workflow_id* include_steps=true include_metrics=false step_filter=[] step_status_filter=[] limit=100 offset=0 max_bytes=60000',
    'status progress current_step peer_id start_time end_time stale_ms steps steps_by_status truncated metrics',
  ],
  ['workflow_cancel', 'workflow_id* reason force=false', 'status cancelled_steps message'],
  [
    'workflow_list',
    'status_filter peer_filter tag_filter=[] limit=50 offset=0 scope="mesh"',
    'workflows total_count returned_count has_more',
  ],
  [
    'workflow_dependencies',
    'workflow_id* format fmt step_filter=[] limit=100 offset=0 max_bytes=60000',
    'dag nodes edges critical_path truncated',
  ],
  [
    'workflow_result',
    'workflow_id* include_outputs=true include_logs=false step_filter=[] max_bytes=60000',
    'status result outputs logs truncated cuts execution_time_ms',
  ],
  [
    'task_submit',
    'task_id task_type* payload={} priority=1 tags=[] timeout_ms retry_policy={"max_retries":0,"initial_delay_ms":1000,"backoff_factor":2,"max_delay_ms":60000,"jitter":true} delay_ms deadline requires={"labels":[],"peers":[]} prefer wait_timeout_ms depends_on=[] at_most_once=false metadata={}',
    'task_id status queue_position estimated_start_time assigned_worker durability duplicate warnings',
  ],
  [
    'task_status',
    'task_id* include_logs=false include_metrics=false max_bytes=60000',
    'status progress worker_id peer_id attempt start_time end_time queue_position placement logs metrics',
  ],
  ['task_cancel', 'task_id* reason force=false', 'status cancelled_at cleanup_required'],
  [
    'task_list',
    'status_filter worker_filter workflow_filter tag_filter=[] priority_min dead_letter=false limit=100 offset=0 scope="mesh"',
    'tasks total_count returned_count has_more',
  ],
  ['task_priority', 'task_id* new_priority boost demote requeue=true', 'old_priority new_priority new_queue_position'],
  ['task_retry', 'task_id* retry_config={}', 'task_id retry_task_id retry_count queue_position'],
  [
    'task_result',
    'task_id* include_output=true include_logs=false max_bytes=60000',
    'status result output logs truncated cuts execution_time_ms attempts',
  ],
  [
    'queue_stats',
    'include_worker_stats=false include_historical=false scope="mesh"',
    'queued_count running_count completed_count failed_count cancelled_count dead_letter_count paused average_wait_time_ms average_execution_time_ms throughput_per_minute worker_stats historical',
  ],
  ['queue_pause', 'reason scope="local"', 'status paused_at queued_tasks running_tasks'],
  ['queue_resume', 'reorder_by_priority=true scope="local"', 'status resumed_at queued_tasks reordered'],
  ['queue_clear', 'confirm* status_filter', 'cleared_count remaining_count cleared_at'],
  [
    'worker_register',
    'worker_id* capabilities* max_concurrent_tasks=5 resource_limits={} metadata={}',
    'worker_id status registered_at assigned_peers',
  ],
  [
    'worker_unregister',
    'worker_id* graceful=true timeout_ms=25000',
    'status unregistered_at completed_tasks abandoned_tasks',
  ],
  [
    'worker_status',
    'worker_id* include_tasks=false include_metrics=false',
    'status peer_id running_tasks completed_tasks failed_tasks resource_usage tasks metrics',
  ],
  [
    'peer_discover',
    'capability_filter=[] max_peers=10 timeout_ms=30000 include_metrics=false',
    'peers discovered_count search_time_ms',
  ],
  [
    'peer_connect',
    'peer_id multiaddr timeout_ms=30000 retry_count=3 persist=true',
    'peer_id connection_id connection_time_ms protocol_version peer_capabilities attempts',
  ],
  ['peer_disconnect', 'peer_id* reason graceful=true', 'was_connected graceful reason cleanup_performed'],
  [
    'peer_list',
    'status_filter capability_filter=[] sort_by="last_seen" limit=100 offset=0',
    'peers total_count returned_count has_more',
  ],
  ['peer_metrics', 'peer_id* include_history=false history_hours=24', 'current_metrics connection_info history'],
  [
    'bootstrap_network',
    'bootstrap_nodes=[] timeout_ms=45000 min_connections=1 max_connections=10',
    'connected_count failed_count bootstrap_nodes_used connected_peers network_ready bootstrap_time_ms',
  ],
];

/** Fields within fields that are published too: `tool` → path in its input or output → names. */
export const PUBLISHED_WITHIN: [tool: string, io: 'input' | 'output', path: string, names: string][] = [
  [
    'workflow_submit',
    'input',
    'steps[]',
    'step_id action inputs depends_on when foreach max_parallel retry timeout_ms on_failure requires prefer wait_timeout_ms priority at_most_once cache',
  ],
  ['workflow_submit', 'input', 'steps[].retry', 'max_retries initial_delay_ms backoff_factor max_delay_ms jitter'],
  ['workflow_submit', 'input', 'steps[].requires', 'labels cpu_cores memory_gb peers'],
  ['task_submit', 'input', 'retry_policy', 'max_retries initial_delay_ms backoff_factor max_delay_ms jitter'],
  ['task_retry', 'input', 'retry_config', 'max_retries timeout_ms'],
  ['worker_register', 'input', 'resource_limits', 'cpu_cores memory_gb'],
  ['workflow_submit', 'output', 'durability', 'copies wanted'],
  ['task_submit', 'output', 'durability', 'copies wanted'],
  ['workflow_status', 'output', 'steps[]', 'step_id action status started_at ended_at error tasks peers'],
  ['task_status', 'output', 'placement', 'considered chosen reason found_by'],
  ['peer_discover', 'output', 'peers[]', 'peer_id multiaddrs capabilities last_seen source metrics'],
  ['peer_list', 'output', 'peers[]', 'peer_id name status connected_since connection_quality latency_ms capabilities'],
  [
    'peer_metrics',
    'output',
    'current_metrics',
    'latency_ms jitter_ms bandwidth_mbps connection_quality reliability_score uptime_hours requests_served bytes_sent bytes_received',
  ],
];
