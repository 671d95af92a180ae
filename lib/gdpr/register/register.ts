import type { Context } from '../../platform/context.ts'
import type { SubjectMap } from '../map/subject-map.ts'
import { readSubjectMap, requirePolicy } from '../policy.ts'
import { processorsOf } from '../processors/index.ts'

export interface Register {
  controller: { name: string; contact: string | null; dataProtectionOfficer: string | null }
  activities: {
    name: string
    purpose: string
    basis: string
    subjects: string
    /** Tables with the columns that are processed. */
    data: { table: string; columns: string[] }[]
    recipients: string[]
    transfers: string | null
    /** Envisaged time limits for erasure (Art. 30(1)(f)), in sentences. */
    limits: string[]
  }[]
  /** Technical and organisational measures (Art. 30(1)(g)) that this deployment has in fact. */
  measures: string[]
  /** Reachable tables that no activity names: the register is not complete while there are any. */
  unassigned: string[]
}

/**
 * The register of processing activities (Art. 30(1)), from the policy and the live database, so that it is never older than
 * they are.
 */
export async function registerOf(ctx: Context): Promise<Register> {
  const policy = requirePolicy(ctx)
  const map = await readSubjectMap(ctx)
  const assigned = new Set<string>()
  const processors = processorsOf(policy).map(({ name }) => name)
  const activities = (policy.activities ?? []).map((activity) => {
    const data = activity.tables.map((written) => {
      const key = written.includes('.') ? written : `public.${written}`
      assigned.add(key)
      return { table: key, columns: map.tables.get(key)?.table.columns.map(({ name }) => name) ?? [] }
    })
    return {
      name: activity.name,
      purpose: activity.purpose,
      basis: activity.basis,
      subjects: activity.subjects ?? 'users of the app',
      data,
      recipients: activity.recipients ?? processors,
      transfers: activity.transfers ?? null,
      limits: data.flatMap(({ table }) => limitsOf(ctx, map, table)),
    }
  })
  return {
    controller: {
      name: policy.controller?.name ?? ctx.config.app.name,
      contact: policy.controller?.contact ?? null,
      dataProtectionOfficer: policy.controller?.dataProtectionOfficer ?? null,
    },
    activities,
    measures: measuresOf(ctx),
    unassigned: [...map.tables.keys()].filter((key) => !assigned.has(key) && !key.startsWith('auth.') && !key.startsWith('storage.')),
  }
}

function limitsOf(ctx: Context, map: SubjectMap, key: string): string[] {
  const lines: string[] = []
  for (const rule of ctx.config.retention ?? []) {
    const table = rule.table.includes('.') ? rule.table : `public.${rule.table}`
    if (table !== key || rule.action === 'keep') continue
    const verb = rule.action === 'purge' ? 'deleted' : 'archiveTo' in rule.action ? `moved to ${rule.action.archiveTo}` : 'made anonymous'
    lines.push(`${key}: ${verb} ${rule.olderThan === undefined ? `where ${rule.where ?? 'the rule says'}` : `after ${rule.olderThan}`}`)
  }
  const erase = map.tables.get(key)?.erase
  if (erase?.kind === 'keep') lines.push(`${key}: kept for ${erase.until} after an erasure, by ${erase.basis}`)
  if (lines.length === 0) lines.push(`${key}: until the person is erased`)
  return lines
}

function measuresOf(ctx: Context): string[] {
  const { backup, gdpr } = ctx.config
  const lines = ['Every access and change under these rights stands in an audit trail whose rows are chained by hash.']
  if (ctx.env.ENCRYPTION_KEY !== undefined)
    lines.push('Stored webhook payloads are encrypted; people are named by keyed hashes in logs and records.')
  if (backup !== undefined) {
    if (backup.encryption !== 'none') lines.push('Backups are encrypted to a recipient whose identity is not on the server.')
    lines.push('Erasures are journalled outside the database and repeated when a backup is restored.')
    if (backup.drill !== false) lines.push('Backups are proven every week by restoring the newest one and comparing its content.')
  }
  if (gdpr?.requests?.review === true) lines.push('Requests of people are reviewed by an operator before they are carried out.')
  return lines
}

/** The register as Markdown, for a file or for the authority. */
export function renderRegister(register: Register): string {
  const { controller, activities, measures, unassigned } = register
  const lines = [
    '# Register of processing activities (Art. 30 GDPR)',
    '',
    `Controller: ${controller.name}${controller.contact === null ? '' : `, ${controller.contact}`}`,
    ...(controller.dataProtectionOfficer === null ? [] : ['', `Data protection officer: ${controller.dataProtectionOfficer}`]),
  ]
  for (const one of activities)
    lines.push(
      '',
      `## ${one.name}`,
      '',
      `- Purpose: ${one.purpose}`,
      `- Legal basis: ${one.basis}`,
      `- Data subjects: ${one.subjects}`,
      `- Categories of data: ${one.data.map(({ table, columns }) => `${table} (${columns.join(', ')})`).join('; ')}`,
      `- Recipients: ${one.recipients.join(', ') || 'none'}`,
      `- Transfers to third countries: ${one.transfers ?? 'none'}`,
      ...one.limits.map((limit) => `- Time limit: ${limit}`),
    )
  lines.push('', '## Measures', '', ...measures.map((line) => `- ${line}`))
  if (unassigned.length > 0)
    lines.push('', '## Not described yet', '', ...unassigned.map((table) => `- ${table}: no entry of gdpr.activities names it`))
  return `${lines.join('\n')}\n`
}
