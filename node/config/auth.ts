/** The setting `auth`: who may call over HTTP, and how they show who they are. What it means is in `node/auth/`. */
import { z } from 'zod';
import { permissionPatternSchema, ROLE_PERMISSIONS } from '../../tools/permissions.ts';

/** Of the hash that HS256 signs with (RFC 7518, 3.2): a shorter secret is guessed before a signature is. */
const SECRET_CHARS_MIN = 32;
const SECRET_CHARS_MAX = 4_096;
const ROLES_MAX = 64;
const PATTERNS_MAX = 64;
const NAMES_MAX = 16;
const LEEWAY_S_DEFAULT = 30;
const LEEWAY_S_MAX = 300;

export const roleNameSchema = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,31}$/, 'must be 1 to 32 characters of a-z 0-9 _ - and start with a letter');

const secretSchema = z
  .string()
  .min(SECRET_CHARS_MIN, `must have at least ${SECRET_CHARS_MIN} characters, such as: openssl rand -base64 32`)
  .max(SECRET_CHARS_MAX, `must have at most ${SECRET_CHARS_MAX} characters`);

/** What can be sent as a bearer token (RFC 6750, 2.1). */
const apiKeySchema = secretSchema.regex(
  /^[A-Za-z0-9._~+/-]+=*$/,
  'must have only A-Z a-z 0-9 . _ ~ + / - and perhaps = at its end, such as: openssl rand -base64 32',
);

const textSchema = z.string().min(1, 'must not be empty').max(512, 'must have at most 512 characters');
const webUrlSchema = z.url({ protocol: /^https?$/, error: 'must be a URL such as https://id.example.org/' });

/** `role`, or `realm_access.roles` for a field of an object. */
const claimSchema = z.string().regex(/^[^\s.]{1,128}(\.[^\s.]{1,128}){0,7}$/, 'must be the name of a claim');

const jwtSchema = z
  .strictObject({
    secret: secretSchema.optional().describe('Secret that tokens are signed with (HS256, HS384, HS512); JWT_SECRET'),
    jwks_url: webUrlSchema
      .optional()
      .describe('Where the public keys are that tokens are signed with (RS, PS, ES, EdDSA)'),
    jwks_private: z
      .boolean('must be true or false')
      .default(false)
      .describe('Lets jwks_url be http, or at a private or loopback address'),
    issuer: textSchema.optional().describe('Who must have made the token (`iss`); needed with jwks_url'),
    audience: z
      .union([textSchema, z.array(textSchema).min(1).max(NAMES_MAX)])
      .optional()
      .describe('For whom the token must be (`aud`); needed with jwks_url unless oauth.resource says it'),
    leeway_s: z
      .number('must be a number')
      .min(0, 'must be at least 0')
      .max(LEEWAY_S_MAX, `must be at most ${LEEWAY_S_MAX}`)
      .default(LEEWAY_S_DEFAULT)
      .describe('How far the clocks of who makes tokens and of this peer may be apart, in seconds'),
    role_claim: claimSchema.default('role').describe('The claim with the role, or with a list that has it'),
    permissions_claim: claimSchema
      .default('permissions')
      .describe('The claim with permissions: a list, or words in a text, as `scope` is'),
    default_role: roleNameSchema.optional().describe('The role of a token that names none; absent: it is refused'),
  })
  .superRefine((jwt, context) => {
    const issue = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    const { jwks_url, jwks_private, issuer } = jwt;
    if (jwks_url === undefined) return;
    if (issuer === undefined) issue('issuer', 'is needed with jwks_url: tokens of others could be signed there, too');
    if (!jwks_private && !jwks_url.startsWith('https:')) {
      issue(
        'jwks_url',
        'must be https: who changes the keys on their way can be anybody (jwks_private: true lets it be)',
      );
    }
  });
export type JwtSettings = z.output<typeof jwtSchema>;

const oauthSchema = z.strictObject({
  resource: webUrlSchema
    .refine((url) => new URL(url).hash === '', 'must be without #')
    .describe('This peer as clients name it, e.g. https://mesh.example.org/mcp: tokens must be for it (`aud`)'),
  authorization_servers: z
    .array(webUrlSchema)
    .min(1, 'must have at least one')
    .max(NAMES_MAX, `must have at most ${NAMES_MAX}`)
    .describe('Where clients get tokens'),
  scopes: z
    .array(z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,128}$/, 'must be a scope'))
    .max(PATTERNS_MAX)
    .default([])
    .describe('Scopes that clients ask for'),
});

export const authSchema = z
  .strictObject({
    roles: z
      .record(z.string(), z.array(permissionPatternSchema).max(PATTERNS_MAX))
      .superRefine(checkRoleNames)
      .default({})
      .describe(
        `What roles may do, beside and in place of ${Object.entries(ROLE_PERMISSIONS)
          .map(([role, patterns]) => `${role} (${patterns.map((each) => `\`${each}\``).join(', ')})`)
          .join('; ')}`,
      ),
    api_key: apiKeySchema.optional().describe('One key of this peer alone; API_KEY'),
    api_key_role: roleNameSchema.default('admin').describe('What the one key may do'),
    jwt: jwtSchema.optional().describe('Which tokens of others are taken'),
    oauth: oauthSchema
      .optional()
      .describe('What clients of OAuth are told, so that they find where they get tokens (RFC 9728)'),
  })
  .superRefine((auth, context) => {
    const issue = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message });
    const { jwt, oauth } = auth;
    const isRole = (role: string) => role in rolesOf(auth);
    const known = () => `names no role; the roles are ${Object.keys(rolesOf(auth)).join(', ')}`;
    if (!isRole(auth.api_key_role)) issue(['api_key_role'], known());
    if (jwt?.default_role !== undefined && !isRole(jwt.default_role)) issue(['jwt', 'default_role'], known());
    if (oauth !== undefined && jwt?.jwks_url === undefined) {
      issue(['oauth'], 'needs jwt.jwks_url and jwt.issuer: by them the tokens of the authorization server are checked');
    }
    if (jwt?.jwks_url !== undefined && jwt.audience === undefined && oauth === undefined) {
      issue(['jwt', 'audience'], 'is needed with jwks_url: the issuer makes tokens for other services, too');
    }
  });
export type AuthSettings = z.output<typeof authSchema>;

/** In place of a schema of the keys, which could not say what is wrong with one. */
function checkRoleNames(roles: Record<string, unknown>, context: z.RefinementCtx): void {
  const names = Object.keys(roles);
  if (names.length > ROLES_MAX) context.addIssue({ code: 'custom', message: `must have at most ${ROLES_MAX} roles` });
  for (const name of names) {
    const message = roleNameSchema.safeParse(name).error?.issues[0]?.message;
    if (message !== undefined)
      context.addIssue({ code: 'custom', path: [name], message: `the name of a role ${message}` });
  }
}

/** All roles of a peer with what each may do. */
export function rolesOf({ roles }: Pick<AuthSettings, 'roles'>): Record<string, readonly string[]> {
  return Object.assign(Object.create(null), ROLE_PERMISSIONS, roles) as Record<string, readonly string[]>;
}
