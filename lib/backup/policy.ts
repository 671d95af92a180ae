import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'

export interface BackupPolicy {
  /** null: not encrypted, because the policy says so in so many words. */
  recipients: readonly string[] | null
  connections: number
  excludeSchemas: readonly string[]
}

/**
 * What the policy says of backups.
 * @throws {CaretakerError} `not_configured` when it names neither a recipient nor `encryption: "none"`
 */
export function backupPolicy(ctx: Pick<Context, 'config'>): BackupPolicy {
  const policy = ctx.config.backup ?? {}
  const recipients = policy.recipients ?? []
  if (recipients.length > 0 && policy.encryption === 'none')
    throw new CaretakerError('policy_invalid', 'backup.recipients and backup.encryption: "none" exclude each other; remove one.')
  if (recipients.length === 0 && policy.encryption !== 'none')
    throw new CaretakerError(
      'not_configured',
      'A backup needs a recipient: set backup.recipients in the policy or pass --recipient age1… (age-keygen makes one). To store it unencrypted, set backup.encryption: "none".',
    )
  return {
    recipients: recipients.length === 0 ? null : [...new Set(recipients)],
    connections: backupConnections(ctx),
    excludeSchemas: policy.excludeSchemas ?? [],
  }
}

/** Connections a backup or restore may hold beside its coordinator. */
export function backupConnections(ctx: Pick<Context, 'config'>): number {
  return ctx.config.backup?.connections ?? 2
}
