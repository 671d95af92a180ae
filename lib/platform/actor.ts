export const roles = ['admin', 'developer', 'support', 'viewer'] as const
export type Role = (typeof roles)[number]

/** Who asked. Written to every audit row; never holds more than an id. */
export type Actor =
  | { type: 'system'; job?: string }
  | { type: 'cli' }
  | { type: 'operator'; id: string; role: Role }
  /** `authenticatedAt`: when they last signed in (not when the token was made), seconds since 1970. */
  | { type: 'subject'; id: string; authenticatedAt?: number; session?: string }
  | { type: 'provider'; source: string }
  | { type: 'anonymous' }
