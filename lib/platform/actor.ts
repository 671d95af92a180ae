export const roles = ['admin', 'developer', 'support', 'viewer'] as const
export type Role = (typeof roles)[number]

/** Who asked. Written to every audit row; never holds more than an id. */
export type Actor =
  | { type: 'system'; job?: string }
  | { type: 'cli' }
  | { type: 'operator'; id: string; role: Role }
  | { type: 'subject'; id: string }
  | { type: 'provider'; source: string }
  | { type: 'anonymous' }
