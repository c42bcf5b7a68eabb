/** Why somebody is not let in, or may not do something to the mesh. */
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';

export const MEMBERSHIP_CODES = [
  'NO_CERTIFICATE',
  'OTHER_MESH',
  'CERTIFICATE_FORGED',
  'CERTIFICATE_OF_ANOTHER',
  'CERTIFICATE_EXPIRED',
  'CERTIFICATE_NOT_YET_VALID',
  'REVOKED',
  'INVITE_FORGED',
  'INVITE_EXPIRED',
  'INVITE_USED',
  'INVITE_REVOKED',
  'INVITE_FOR_ANOTHER',
  'NOT_AN_ISSUER',
  'NEEDS_ROOT',
  'NEEDS_ADMIN',
  'MESH_FULL',
  'INVALID_ADMISSION',
  'INVALID_TOKEN',
  'UNKNOWN_MEMBER',
  'UNKNOWN_KEY',
  'KEY_EXISTS',
  'NOT_SECURED',
  'MEMBERSHIP_UNREADABLE',
] as const;
export type MembershipCode = (typeof MEMBERSHIP_CODES)[number];

/** Stable codes of `MEMBERSHIP_CODES`; none of these is cured by trying again, except where `retryable` says so. */
export class MembershipError extends FlowmeshError {
  constructor(
    code: MembershipCode,
    message: string,
    options: { retryable?: boolean; details?: JsonObject; cause?: unknown } = {},
  ) {
    super(code, message, options);
  }
}
