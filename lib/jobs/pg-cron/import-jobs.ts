import type { JobStep, RetentionRule } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import type { Queryable, Row } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { translateSchedule } from './schedule.ts'
import { type Rule, translateCommand } from './translate.ts'

export interface ImportedJob {
  /** pg_cron's own number and name. */
  id: number
  was: string
  /** Its name in the policy. */
  name: string
  /** Null: it runs on demand. */
  schedule: string | { cron: string; timezone: string } | null
  steps: JobStep[]
  warnings: string[]
}

export interface PgCronImport {
  jobs: ImportedJob[]
  retention: RetentionRule[]
  /** Jobs of which no policy can be made here, and why. */
  left: { id: number; was: string; reason: string }[]
  warnings: string[]
}

interface CronJob extends Row {
  id: number
  name: string | null
  schedule: string
  command: string
  host: string | null
  database: string
  username: string
  active: boolean
}

/**
 * Reads pg_cron's jobs and says what of a policy replaces them. Changes nothing.
 * @param taken names that built-in jobs have
 * @throws {CaretakerError} `not_found` where there is no pg_cron, `forbidden` where the role may not read its jobs
 */
export async function importPgCron(ctx: Pick<Context, 'db' | 'config'>, taken: readonly string[]): Promise<PgCronImport> {
  const about = await lookAround(ctx.db)
  const zone = !about.zone || /^(gmt|utc|etc\/utc)$/i.test(about.zone) ? 'UTC' : about.zone
  const tables = await listTables(ctx.db)
  const found: PgCronImport = { jobs: [], retention: [], left: [], warnings: [] }
  if (!about.seesAll) found.warnings.push(`Only the jobs that ${about.role} may see: pg_cron shows each role its own.`)
  for (const job of await readJobs(ctx.db)) {
    if (job.database !== about.database) {
      found.left.push({
        id: job.id,
        was: was(job),
        reason: `it runs in the database "${job.database}": import it there, with --database-url`,
      })
      continue
    }
    const { steps, warnings } = translateCommand(job.command, tables)
    if (steps.length === 0) {
      found.left.push({
        id: job.id,
        was: was(job),
        reason: warnings.map((warning) => warning.replace(/^left out: /, '')).join('; ') || 'its command is empty',
      })
      continue
    }
    const { cron, warnings: ofSchedule } = translateSchedule(job.schedule, zone)
    const name = nameFor(job, [...taken, ...found.jobs.map((one) => one.name)])
    found.jobs.push({
      id: job.id,
      was: was(job),
      name,
      schedule: cron === null || !job.active ? null : zone === 'UTC' ? cron : { cron, timezone: zone },
      steps: join(steps.map((step) => ('rule' in step ? { retention: [addRule(found.retention, step.rule, name)] } : step))),
      warnings: [
        ...(ctx.config.jobs?.[name] === undefined ? [] : ['the policy has a job of this name already']),
        ...(job.active ? [] : [`it was switched off; its schedule was "${job.schedule}"`]),
        ...ofSchedule,
        ...warnings,
        ...(job.username === about.role ? [] : [`it ran as ${job.username}, and runs now as the role of Caretaker's connection`]),
        ...(job.host === null || ['', 'localhost', '127.0.0.1', '/tmp'].includes(job.host) ? [] : [`it ran on the host ${job.host}`]),
      ],
    })
  }
  return found
}

interface Surroundings extends Row {
  database: string
  role: string
  /** Whether row-level security shows the role every job. */
  seesAll: boolean
  zone: string | null
}

async function lookAround(db: Queryable): Promise<Surroundings> {
  const [about] = await db.query<Surroundings & { installed: boolean; usage: boolean | null }>(
    `select n.oid is not null as installed, has_schema_privilege(n.oid, 'usage') as usage, current_database() as database,
       current_user as role, r.rolsuper or r.rolbypassrls as "seesAll", nullif(current_setting('cron.timezone', true), '') as zone
     from pg_catalog.pg_roles r left join pg_catalog.pg_namespace n on n.nspname = 'cron' where r.rolname = current_user`,
  )
  if (about?.installed !== true) throw new CaretakerError('not_found', 'This database has no pg_cron: there is no schema cron.')
  // Without this one not even the table's name can be looked up.
  const [table] = about.usage === true ? await db.query<{ oid: string | null }>(`select to_regclass('cron.job')::text as oid`) : []
  if (about.usage === true && table?.oid == null)
    throw new CaretakerError('not_found', 'This database has no pg_cron: there is no table cron.job.')
  const [may] =
    about.usage === true ? await db.query<{ may: boolean }>(`select has_table_privilege('cron.job', 'select') as may`) : [{ may: false }]
  if (may?.may !== true)
    throw new CaretakerError(
      'forbidden',
      `The role ${about.role} may not read cron.job: grant usage on schema cron to ${about.role}; grant select on cron.job to ${about.role}.`,
    )
  return about
}

/** Whole rows as JSON, because columns have come with pg_cron's versions. */
async function readJobs(db: Queryable): Promise<CronJob[]> {
  return db.query<CronJob>(
    `select (j->>'jobid')::int as id, j->>'jobname' as name, j->>'schedule' as schedule, j->>'command' as command, j->>'nodename' as host,
       j->>'database' as database, j->>'username' as username, coalesce((j->>'active')::boolean, true) as active
     from (select to_jsonb(job) as j from cron.job) as rows order by 1`,
  )
}

async function listTables(db: Queryable): Promise<string[]> {
  const rows = await db.query<{ name: string }>(
    `select case when n.nspname = 'public' then c.relname else n.nspname || '.' || c.relname end as name
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'm') and not c.relispartition and pg_catalog.pg_get_userbyid(c.relowner) = current_user
       and n.nspname not in ('pg_catalog', 'information_schema', 'cron', 'caretaker', 'pgboss', 'supabase_migrations') order by 1`,
  )
  return rows.map(({ name }) => name)
}

function was({ id, name }: CronJob): string {
  return name ?? `job ${id}`
}

function nameFor(job: CronJob, taken: readonly string[]): string {
  const wanted =
    (job.name ?? '')
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, '-')
      .replaceAll(/^-+|-+$/g, '')
      .slice(0, 50) || `cron-${job.id}`
  const free = (name: string) => !taken.includes(name) && name !== 'tick'
  if (free(wanted)) return wanted
  for (let number = 2; ; number++) if (free(`${wanted}-${number}`)) return `${wanted}-${number}`
}

/** The rule's name: the table's, unless another rule has that. The same rule twice is one. */
function addRule(rules: RetentionRule[], rule: Rule, job: string): string {
  const nameOf = (one: RetentionRule) => one.name ?? one.table
  const same = rules.find(({ name: _name, ...other }) => JSON.stringify(other) === JSON.stringify(rule))
  if (same !== undefined) return nameOf(same)
  const free = (name: string) => !rules.some((one) => nameOf(one) === name)
  if (free(rule.table)) {
    rules.push({ ...rule })
    return rule.table
  }
  let name = `${job}-${rule.table}`
  for (let number = 2; !free(name); number++) name = `${job}-${rule.table}-${number}`
  rules.push({ name, ...rule })
  return name
}

/** Steps of one kind that follow each other are one. */
function join(steps: JobStep[]): JobStep[] {
  const joined: JobStep[] = []
  for (const step of steps) {
    const last = joined.at(-1)
    const kind = Object.keys(step)[0] as string
    const [before, now] = [last, step].map((one) => (one as Record<string, unknown> | undefined)?.[kind])
    if (Array.isArray(before) && Array.isArray(now)) joined[joined.length - 1] = { [kind]: [...before, ...now] } as JobStep
    else joined.push(step)
  }
  return joined
}
