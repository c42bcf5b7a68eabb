import { z } from 'zod';

export const peerIdSchema = z.string().regex(/^[1-9A-HJ-NP-Za-km-z]{46,60}$/, 'must be the id of a peer');
