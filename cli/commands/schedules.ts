import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { builtInNames, findJob, jobs } from '../../lib/catalog.ts'
import type { Policy } from '../../lib/config/index.ts'
import { importPgCron, nextSlots, type Plan, type Platform, plans, platforms, policyLines } from '../../lib/jobs/index.ts'
import { systemClock } from '../../lib/platform/clock.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { readOnlyDatabase } from '../../lib/platform/read-only.ts'
import type { Command, Invocation } from '../command.ts'
import { hostFile, writeHostFile } from '../host-files.ts'
import { loadPolicy } from '../open-context.ts'
import { duration, table } from '../output.ts'

type Flags = Invocation['flags']

const list: Command = {
  name: 'schedules list',
  usage: '[JOB] [--count 3]',
  summary: 'When each job fires next, in its own zone and in UTC',
  options: { count: { type: 'string', value: 'N', about: 'how many firings of each job; 1 unless given, 5 for one job' } },
  async run({ args, flags, context, out }) {
    const all = jobs(await policyHere(flags, context))
    const [name] = args
    if (name !== undefined) findJob(all, name)
    const count = numberOf(flags, 'count', name === undefined ? 1 : 5, 100)
    const now = systemClock.now()
    const rows = all
      .filter((job) => name === undefined || job.name === name)
      .flatMap(({ name: job, schedule }) =>
        schedule === null
          ? []
          : [
              {
                job,
                ...schedule,
                next: nextSlots(schedule, now, count).map((slot) => ({ utc: slot, local: localTime(slot, schedule.timezone) })),
              },
            ],
      )
    const onDemand = all.filter((job) => job.schedule === null && (name === undefined || job.name === name)).map((job) => job.name)
    const lines = rows.flatMap((row) =>
      row.next.map(({ utc, local }, index) => [
        index === 0 ? row.job : '',
        index === 0 ? row.cron : '',
        index === 0 ? row.timezone : '',
        local,
        `${utc.toISOString().slice(0, 16).replace('T', ' ')}`,
        index === 0 ? policyOf(row) : '',
      ]),
    )
    const text_ =
      rows.length === 0 ? [] : [table(['job', 'schedule', 'zone', 'next there', 'next (UTC)', 'if it does not go as planned'], lines)]
    if (onDemand.length > 0) text_.push(`On demand: ${onDemand.join(', ')}.`)
    out.result({ jobs: rows, onDemand }, text_.join('\n\n'))
  },
}

const sync: Command = {
  name: 'schedules sync',
  usage: '--platform netlify|vercel [--plan hobby|pro] [--check] [--project DIR]',
  summary: "Write the policy's schedules into the host's own file, and say what the host cannot do",
  options: {
    platform: { type: 'string', value: 'HOST', about: 'netlify or vercel' },
    plan: { type: 'string', value: 'PLAN', about: 'of Vercel: pro unless hobby is given' },
    check: { type: 'boolean', about: 'change nothing; fail and show the difference where there is one' },
    project: { type: 'string', value: 'DIR', about: 'the folder that is deployed; this checkout unless given' },
  },
  async run({ flags, out }) {
    const platform = oneOf<Platform>(flags, 'platform', platforms)
    if (platform === undefined) throw new CaretakerError('bad_request', 'Which host? --platform netlify or --platform vercel.')
    if (platform === 'netlify' && flags.plan !== undefined)
      throw new CaretakerError('bad_request', '--plan is for --platform vercel: Netlify fires scheduled functions alike on every plan.')
    const plan = oneOf<Plan>(flags, 'plan', plans) ?? 'pro'
    const project = text(flags.project) ?? fileURLToPath(new URL('../..', import.meta.url))
    const found = await hostFile(project, platform, plan, jobs(await loadPolicy(text(flags.config))))
    const inSync = found.difference.length === 0
    if (!inSync && flags.check !== true) await writeHostFile(project, found)
    const state = inSync
      ? `${found.file} has the policy's schedules.`
      : flags.check === true
        ? `${found.file} differs from the policy:`
        : `${found.file} is written:`
    out.result(
      { platform, ...(platform === 'vercel' ? { plan } : {}), file: found.file, inSync, difference: found.difference, notes: found.notes },
      [
        state,
        ...found.difference,
        ...(found.notes.length > 0 ? ['', ...found.notes.map((note) => `- ${note}`)] : []),
        ...(!inSync && flags.check === true
          ? ['', `\`caretaker schedules sync --platform ${platform}${plan === 'hobby' ? ' --plan hobby' : ''}\` writes it.`]
          : []),
      ].join('\n'),
    )
    if (!inSync && flags.check === true) process.exitCode = 1
  },
}

const importCommand: Command = {
  name: 'schedules import',
  summary: "Read pg_cron's jobs and print the policy lines that replace them, with what never worked and what is left to do",
  async run({ context, out }) {
    const ctx = await context()
    const found = await importPgCron({ config: ctx.config, db: readOnlyDatabase(ctx.db) }, builtInNames)
    const lines = policyLines(found)
    const summary = `${found.jobs.length} jobs and ${found.retention.length} retention rules; ${found.left.length} left out.`
    out.result(
      { ...found, lines },
      `// ${summary} Put these lines into defineConfig({ … }), then ask \`caretaker plan\`.${lines === '' ? '' : `\n${lines}`}`,
    )
  },
}

export const commands: Command[] = [list, sync, importCommand]

/** The policy that the other commands go by: that of the local stack's example, where there is a stack. Else no database is needed. */
async function policyHere(flags: Flags, context: Invocation['context']): Promise<Policy> {
  if (flags.config !== undefined) return loadPolicy(text(flags.config))
  const { dataDirectoryOf } = await import('../../local/attach.ts')
  return existsSync(join(dataDirectoryOf(text(flags.data)), 'pg')) ? (await context()).config : loadPolicy(undefined)
}

function policyOf(row: { missed: string; startGraceMs: number; runGraceMs: number | null; overlap: number }): string {
  const missed = { last: 'runs the last missed', all: 'runs all missed', skip: 'skips missed' }[row.missed] ?? row.missed
  const grace = `may start ${duration(row.startGraceMs)} late`
  const run = row.runGraceMs === null ? [] : [`may take ${duration(row.runGraceMs)}`]
  return [missed, grace, ...run, ...(row.overlap > 0 ? [`${row.overlap} beside one`] : [])].join(', ')
}

/** "Sun 2026-11-22 03:00 +01:00". */
function localTime(at: Date, timezone: string): string {
  const parts = new Map(
    new Intl.DateTimeFormat('en-GB', {
      timeZone: timezone,
      weekday: 'short',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      timeZoneName: 'longOffset',
    })
      .formatToParts(at)
      .map(({ type, value }) => [type, value]),
  )
  const part = (type: Intl.DateTimeFormatPartTypes) => parts.get(type) ?? ''
  const offset = part('timeZoneName').replace('GMT', '') || '+00:00'
  return `${part('weekday')} ${part('year')}-${part('month')}-${part('day')} ${part('hour')}:${part('minute')} ${offset}`
}

function oneOf<T extends string>(flags: Flags, name: string, values: readonly T[]): T | undefined {
  const value = flags[name]
  if (value === undefined) return undefined
  const found = values.find((one) => one === value)
  if (found === undefined)
    throw new CaretakerError('invalid_input', `--${name}: found "${String(value).slice(0, 40)}", expected ${values.join(' or ')}.`)
  return found
}

function numberOf(flags: Flags, name: string, otherwise: number, most: number): number {
  const value = flags[name]
  if (value === undefined) return otherwise
  const number = Number(value)
  if (!Number.isInteger(number) || number < 1 || number > most)
    throw new CaretakerError(
      'invalid_input',
      `--${name}: found "${String(value).slice(0, 40)}", expected a whole number from 1 to ${most}.`,
    )
  return number
}

function text(value: Flags[string]): string | undefined {
  return typeof value === 'string' ? value : undefined
}
