/** A chaos report for people. */
import Table from 'cli-table3';
import type { ChaosReport, Spread } from './chaos.ts';
import { FAULTS } from './disturbances.ts';
import { MUST_BE_ZERO } from './verdict.ts';

/** Of the sentences about broken promises. */
const BROKEN_SHOWN_MAX = 20;

export function renderReport(report: ChaosReport): string {
  const { disturbances, broken } = report;
  const table = new Table({ style: { head: [], border: [], compact: true } });
  const kinds = FAULTS.map((fault) => `${fault} ${disturbances.filter((each) => each.fault === fault).length}`);
  table.push(
    ['disturbances', `${disturbances.length}: ${kinds.join(', ')}`],
    ['accepted', `${report.accepted} of ${report.submitted}, ${report.submitted_again} submitted again elsewhere`],
    ...MUST_BE_ZERO.map((field) => [field.replaceAll('_', ' '), `${report[field]}${report[field] > 0 ? '  ✗' : ''}`]),
    ['run twice (allowed)', String(report.run_twice)],
    ['accepted at two peers (allowed)', String(report.accepted_twice)],
    ['superseded (allowed)', String(report.superseded)],
    ['peer killed or stopped → its step starts again', shown(report.replaced_ms)],
    ['owner killed → its job goes on', shown(report.owner_replaced_ms)],
    ['last heal → one answer everywhere', `${report.converged_ms} ms, ${report.asked_again} questions repeated`],
    ['last heal → all peers asked for all ids', `${report.asked_ms} ms`],
  );
  const more = broken.length > BROKEN_SHOWN_MAX ? [`… and ${broken.length - BROKEN_SHOWN_MAX} more`] : [];
  return [table.toString(), ...broken.slice(0, BROKEN_SHOWN_MAX), ...more].join('\n');
}

function shown(spread: Spread | null): string {
  if (spread === null) return '–';
  const { p50, p99, longest, samples } = spread;
  const tail = p99 === null ? '' : `, p99 ${Math.round(p99)} ms`;
  return `p50 ${Math.round(p50)} ms${tail}, longest ${longest} ms, of ${samples}`;
}
