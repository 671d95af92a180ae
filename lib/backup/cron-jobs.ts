import type { Session } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { tableFraming } from './framing.ts'
import { CopyLines, unescapeCopy } from './increments/copy-lines.ts'
import type { Loading, RestoredTable } from './load-tables.ts'
import type { ManifestTable } from './manifest.ts'
import { Digest, Unframe } from './meter.ts'
import { readObjectInto } from './object-stream.ts'
import { nameOf } from './table-name.ts'

/** The table of pg_cron's jobs: its rows are no one's to write but pg_cron's, which has to hear of each. */
export function holdsCronJobs(table: Pick<ManifestTable, 'schema' | 'name' | 'condition'>): boolean {
  return table.schema === 'cron' && table.name === 'job' && table.condition !== null
}

interface CronJob {
  name: string | null
  schedule: string
  command: string
  database: string
  username: string
  active: boolean
}

/**
 * Makes the jobs of pg_cron anew through its functions, each or not at all: one that could not be made inactive, say, is not left
 * behind active. Jobs of the database itself go to the target's, whatever it is called; `stillJobs` makes all of them inactive, where
 * nothing must happen by itself. Their numbers are new.
 */
export async function replayCronJobs(loading: Loading, session: Session, table: ManifestTable): Promise<RestoredTable> {
  const [here] = await session.query<{ database: string; username: string }>(
    'select current_database()::text as database, current_user::text as username',
  )
  const problems: string[] = []
  let made = 0
  for (const job of await readJobs(loading, table)) {
    const wanted: CronJob = {
      ...job,
      database: job.database === loading.manifest.database.name ? (here?.database ?? '') : job.database,
      active: job.active && loading.stillJobs !== true,
    }
    const own = wanted.database === here?.database && wanted.username === here.username
    await session.execute('begin')
    // Its table has row security: of the jobs a role sees its own.
    await session.execute('set local row_security = on')
    try {
      await makeJob(session, wanted, own)
      await session.execute('commit')
      made++
    } catch (error) {
      await session.execute('rollback')
      const state = sqlState(error)
      if (state === undefined) throw error
      problems.push(`${job.name === null ? 'a job without a name' : `"${job.name}"`} of ${job.username} (SQLSTATE ${state})`)
    }
  }
  return {
    table: nameOf(table),
    rows: made,
    verified: problems.length === 0,
    ...(problems.length === 0
      ? {}
      : { problem: `${problems.length} of ${table.rows} jobs could not be made by this role: ${problems.join(', ')}.` }),
  }
}

/** With the fewest rights that will do, and read back. */
async function makeJob(session: Session, job: CronJob, own: boolean): Promise<void> {
  const { name, schedule, command, database, username, active } = job
  const [scheduled] =
    name !== null && (!own || !active)
      ? await session.query<{ id: string }>('select cron.schedule_in_database($1, $2, $3, $4, $5, $6::bool)::text as id', [
          name,
          schedule,
          command,
          database,
          own ? null : username,
          active,
        ])
      : name === null
        ? await session.query<{ id: string }>('select cron.schedule($1, $2)::text as id', [schedule, command])
        : await session.query<{ id: string }>('select cron.schedule($1, $2, $3)::text as id', [name, schedule, command])
  if (name === null && (!own || !active))
    await session.query('select cron.alter_job(job_id := $1::int8, database := $2, username := $3, active := $4::bool)', [
      scheduled?.id,
      own ? null : database,
      own ? null : username,
      active,
    ])
  const [found] = await session.query<{ same: boolean }>(
    `select jobname::text is not distinct from $2::text and schedule = $3 and command = $4 and database = $5 and username = $6 and active = $7::bool as same
     from cron.job where jobid = $1::int8`,
    [scheduled?.id, name, schedule, command, database, username, active],
  )
  if (found?.same !== true)
    throw new CaretakerError(
      'restore_mismatch',
      `cron.job: pg_cron has made another job of ${name === null ? 'one without a name' : `"${name}"`} than was backed up.`,
    )
}

/** The rows of the table as the backup has them, checked against the manifest. */
async function readJobs(loading: Loading, table: ManifestTable): Promise<CronJob[]> {
  const jobs: CronJob[] = []
  const { head, tail } = tableFraming(table)
  for (const part of table.parts) {
    const object = loading.manifest.objects.find((candidate) => candidate.key === part.key)
    if (object === undefined) throw new CaretakerError('backup_corrupt', `${part.key} is not among the objects of the manifest.`)
    const digest = new Digest()
    const lines = new CopyLines()
    await readObjectInto(loading.opening, object, [
      new Unframe(head, tail),
      async (from: AsyncIterable<Buffer>) => {
        for await (const chunk of from) {
          digest.update(chunk)
          for (const line of lines.push(chunk)) jobs.push(parseJob(table.columns, line.toString('utf8')))
        }
      },
    ])
    if (digest.measured().sha256 !== object.contentSha256)
      throw new CaretakerError('backup_corrupt', `${object.key} does not hold what its manifest says.`)
  }
  return jobs
}

function parseJob(columns: readonly string[], line: string): CronJob {
  const values = new Map(line.split('\t').map((value, at) => [columns[at], value === '\\N' ? null : unescapeCopy(value)]))
  const text = (column: string) => values.get(column) ?? ''
  return {
    // Since pg_cron 1.3.
    name: values.get('jobname') ?? null,
    schedule: text('schedule'),
    command: text('command'),
    database: text('database'),
    username: text('username'),
    active: text('active') !== 'f',
  }
}
