import { createEvaluator } from '../../node/expressions/evaluator.ts';
import { evaluatorCompliance } from '../compliance/evaluator.ts';
import { MemoryEvaluator } from '../simulation/memory-evaluator.ts';

evaluatorCompliance('evaluator in processes', () => {
  const evaluator = createEvaluator();
  return { evaluator, cleanup: () => evaluator.close() };
});

evaluatorCompliance('evaluator in memory', () => ({ evaluator: new MemoryEvaluator(), cleanup: async () => {} }));
