import { expect, it } from 'vitest';
import { OFFERS_AT_ONCE_MAX, OFFERS_PER_SECOND_MAX, OfferRates } from '../../node/p2p/offer-rates.ts';

function taken(rates: OfferRates, author: string, offers: number): number {
  return Array.from({ length: offers }, () => rates.take(author)).filter(Boolean).length;
}

it('a peer may send some offers at once, then so many a second; others are not counted with it', () => {
  let now = 0;
  const rates = new OfferRates(() => now);
  expect(taken(rates, 'a', 1_000)).toBe(OFFERS_AT_ONCE_MAX);
  expect(taken(rates, 'b', 1)).toBe(1);
  now += 1_000;
  expect(taken(rates, 'a', 1_000)).toBe(OFFERS_PER_SECOND_MAX);
  now += 3_600_000;
  expect(taken(rates, 'a', 1_000)).toBe(OFFERS_AT_ONCE_MAX);
});
