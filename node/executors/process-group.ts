/**
 * The end of a whole process tree. A task's process leads a group of its own (POSIX), which its children are born
 * into, so one signal to the group reaches all of them, also those whose parent has already ended. A process that
 * starts a session of its own (`setsid`) has left the task and is not reached.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { GROUP_POLL_INTERVAL_MS } from './limits.ts';

/**
 * @param leader pid of the group's leader; it may have ended, its number stays taken while the group has members
 * @param signal 0 only asks
 * @returns whether the group has a member
 */
export function signalGroup(leader: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-leader, signal);
  } catch (error) {
    // ESRCH: nobody is left. EPERM: someone is, who changed the user.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** SIGTERM, and SIGKILL to what is still there after `graceMs`; with 0 SIGKILL at once. Resolves when it was sent. */
export async function endGroup(leader: number, graceMs: number): Promise<void> {
  if (graceMs > 0 && signalGroup(leader, 'SIGTERM')) {
    const end = performance.now() + graceMs;
    // No event tells of the end of a grandchild.
    while (performance.now() < end) {
      await delay(GROUP_POLL_INTERVAL_MS);
      if (!signalGroup(leader, 0)) return;
    }
  }
  signalGroup(leader, 'SIGKILL');
}
