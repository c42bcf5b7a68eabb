/** What peers under test log: nothing, or to stderr at the level that FLOWMESH_TEST_LOG names. */
import { type ChildLog, createLog, LOG_LEVELS, silentLog } from '../../node/log.ts';

export function testLog(name: string): ChildLog {
  const level = LOG_LEVELS.find((each) => each === process.env['FLOWMESH_TEST_LOG']);
  return level === undefined ? silentLog : createLog({ level, fields: { name: name }, pretty: true });
}
