/**
 * The order of test files: those that take minutes first, so that no worker is left alone with one of them at the end.
 * vitest itself goes by how long files took the last time, which a fresh checkout does not know, or else by their size.
 */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const LONGEST = /\/mutations\.test\.ts$/;
const LONG = /\/test\/(simulation|chaos|e2e|bench)\/|\/(evaluator|cables)\.test\.ts$/;

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const {
      longest = [],
      long = [],
      others = [],
    } = Object.groupBy(await super.sort(files), ({ moduleId }) =>
      LONGEST.test(moduleId) ? 'longest' : LONG.test(moduleId) ? 'long' : 'others',
    );
    return [...longest, ...long, ...others];
  }
}
