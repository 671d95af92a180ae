import { canonicalName, nearest } from '../../config/index.ts'
import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { databaseTime } from '../../platform/database-clock.ts'
import { environmentOf } from '../../platform/environment.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { writtenText, writtenTitle } from '../../platform/written-text.ts'
import { policyChecks } from '../check.ts'
import type { MaintenanceWindow } from './list-maintenance.ts'

export interface MaintenanceInput {
  /** Shown on the status page. */
  title: string
  body?: string
  /** Checks that may fail meanwhile, with what depends on them; all where absent. */
  components?: readonly string[]
  /** Default: now. */
  startsAt?: Date
  endsAt: Date
}

const longestDays = 30

/**
 * Announces maintenance: what fails in it is no outage and pages nobody.
 * @throws {CaretakerError} `invalid_input` for a check that does not exist, or times that are no window in the future
 */
export async function scheduleMaintenance(ctx: Context, input: MaintenanceInput): Promise<MaintenanceWindow> {
  const now = await databaseTime(ctx)
  const startsAt = input.startsAt ?? now
  const { endsAt } = input
  const title = writtenTitle('title', input.title)
  const body = input.body === undefined || input.body.trim() === '' ? null : writtenText('body', input.body)
  if (endsAt <= startsAt) throw invalid('endsAt', endsAt.toISOString(), `a time after ${startsAt.toISOString()}`)
  if (endsAt <= now) throw invalid('endsAt', endsAt.toISOString(), 'a time to come')
  if (endsAt.getTime() - startsAt.getTime() > longestDays * 86_400_000)
    throw invalid('endsAt', endsAt.toISOString(), `at most ${longestDays} days after the beginning`)
  const components = input.components === undefined ? null : [...new Set(input.components.map((name) => known(ctx, name)))]
  if (components?.length === 0) throw invalid('components', 'an empty list', 'checks, or nothing at all for every one')
  return ctx.db.transaction(async (tx) => {
    const [row] = await tx.query<{ id: string; createdAt: Date }>(
      `insert into caretaker.maintenance_windows (environment, title, body, components, starts_at, ends_at, created_by)
       values ($1::text, $2::text, $3::text, $4::text[], $5::timestamptz, $6::timestamptz, $7::jsonb) returning id, created_at as "createdAt"`,
      [environmentOf(ctx), title, body, components, startsAt, endsAt, JSON.stringify(ctx.actor)],
    )
    const id = row?.id ?? ''
    await appendAudit(tx, ctx, {
      action: 'health.maintenance_scheduled',
      target: id,
      detail: { startsAt: startsAt.toISOString(), endsAt: endsAt.toISOString(), components: components ?? 'all' },
    })
    return { id, title, body, components: components ?? 'all', startsAt, endsAt, createdAt: row?.createdAt ?? now, recurring: false }
  })
}

/**
 * Ends a window now; one that has not begun is called off.
 * @throws {CaretakerError} `not_found`; `conflict` where it is over already
 */
export async function endMaintenance(ctx: Context, id: string): Promise<void> {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id))
    throw new CaretakerError('not_found', 'There is no maintenance window of that id. One of the policy is changed there.')
  const now = await databaseTime(ctx)
  await ctx.db.transaction(async (tx) => {
    // Conditional: of two who end it at once the second finds it over.
    const ended = await tx.execute(
      `update caretaker.maintenance_windows
       set ends_at = case when starts_at <= $3::timestamptz then $3::timestamptz else ends_at end,
           cancelled_at = case when starts_at <= $3::timestamptz then null else $3::timestamptz end
       where id = $1::uuid and environment = $2::text and cancelled_at is null and ends_at > $3::timestamptz`,
      [id, environmentOf(ctx), now],
    )
    if (ended === 0) {
      const [row] = await tx.query('select 1 from caretaker.maintenance_windows where id = $1::uuid and environment = $2::text', [
        id,
        environmentOf(ctx),
      ])
      throw row === undefined
        ? new CaretakerError('not_found', 'There is no maintenance window of that id.')
        : new CaretakerError('conflict', 'The maintenance window is over already.')
    }
    await appendAudit(tx, ctx, { action: 'health.maintenance_ended', target: id })
  })
}

function known(ctx: Context, name: string): string {
  const names = policyChecks(ctx.config, ctx.env).map((check) => canonicalName(check.name))
  const wanted = canonicalName(name)
  if (names.includes(wanted)) return wanted
  const near = nearest(wanted, names)
  throw invalid(
    'components',
    `"${name.slice(0, 60)}"`,
    `one of ${names.join(', ')}${near === undefined ? '' : ` (did you mean "${near}"?)`}`,
  )
}

function invalid(field: string, found: string, expected: string): CaretakerError {
  return new CaretakerError('invalid_input', `${field}: found ${found}, expected ${expected}.`, {
    issues: [{ path: field, message: `expected ${expected}` }],
  })
}
