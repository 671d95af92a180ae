import { byteSize, durationMs } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'

export interface IncrementsPolicy {
  /** Bytes of log the slot may keep on the database's disk. */
  maxLagBytes: number
  keepMs: number
}

/** `backup.increments`, with its defaults where the policy does not have it (and somebody asks by command). */
export function incrementsPolicy(ctx: Pick<Context, 'config'>): IncrementsPolicy {
  const policy = ctx.config.backup?.increments
  return { maxLagBytes: byteSize(policy?.maxLag ?? '2 GB'), keepMs: durationMs(policy?.keep ?? '7 days') }
}
