import type { JobSchedule, Run, RunState } from '../../lib/jobs/index.ts'
import { type Html, html } from '../html.ts'
import { actorText, badge, facts, json, type Tone, table } from '../parts.ts'
import { relative, spanText, time } from '../time.ts'
import { field } from './form.ts'
import { actionColumn, builders, postButton, type View } from './shell.ts'

const tones: Record<RunState, Tone> = { queued: 'none', dispatched: 'none', running: 'none', done: 'ok', failed: 'bad', skipped: 'warn' }

export function runBadge(state: RunState): Html {
  return badge(tones[state], state === 'dispatched' ? 'queued' : state)
}

export interface JobRow {
  name: string
  description: string
  schedule: JobSchedule | null
  next: Date | null
  last: Pick<Run, 'state' | 'slot'> | undefined
}

/** Every job with its last and next run, and the button that runs it now. */
export function jobsPage(view: View, jobs: readonly JobRow[], recent: readonly Run[]): Html {
  const { timezone, now } = view
  return html`<h1>Jobs</h1>
<p class="soft">A job runs once a slot, whoever fires it and however often. What is run now runs beside its schedule.</p>
${table({
  caption: `${jobs.length} jobs of the policy`,
  empty: 'The policy has no jobs.',
  rows: jobs,
  columns: [
    {
      name: 'Job',
      cell: ({ name, description }) => html`<a href="/ops/runs?job=${name}">${name}</a><br><span class="soft">${description}</span>`,
    },
    {
      name: 'Last run',
      cell: ({ last }) => (last === undefined ? 'never' : html`${runBadge(last.state)} ${relative(last.slot, now, timezone)}`),
    },
    {
      name: 'Next run',
      cell: ({ schedule, next }) =>
        schedule === null
          ? 'when work waits'
          : html`${relative(next, now, timezone)}<br><code>${schedule.cron}</code> <span class="soft">${schedule.timezone}</span>`,
    },
    ...actionColumn<JobRow>(view, builders, ({ name }) =>
      postButton(view, { action: `/ops/jobs/${name}/run`, text: 'Run now', about: name, look: 'quiet' }),
    ),
  ],
})}
<h2>Newest runs</h2>
${runsTable(view, recent)}
<p><a href="/ops/runs">More runs</a></p>`
}

const stateOptions = [['', 'any'], ...['queued', 'running', 'done', 'failed', 'skipped'].map((state) => [state, state] as const)] as const

/** A page of runs; the one before ends at the run `older`. */
export function runsPage(
  view: View,
  runs: readonly Run[],
  filter: { job?: string | undefined; state?: string | undefined; older: string | null },
): Html {
  const { job = '', state = '', older } = filter
  const link = new URLSearchParams({ ...(job === '' ? {} : { job }), ...(state === '' ? {} : { state }), before: older ?? '' })
  return html`<h1>Runs${job !== '' && ` of ${job}`}${state !== '' && ` that are ${state}`}</h1>
<form method="get" action="/ops/runs" class="row">
${field({ id: 'job', label: 'Job', value: job, maxLength: 63 })}${field({ id: 'state', label: 'State', value: state, options: stateOptions })}<button>Show</button></form>
${runsTable(view, runs)}
${older !== null && html`<p><a href="/ops/runs?${link.toString()}">Older</a></p>`}`
}

function runsTable({ timezone, now }: View, runs: readonly Run[]): Html {
  return table({
    caption: 'Newest first',
    empty: 'No runs.',
    rows: runs,
    columns: [
      {
        name: 'Run',
        cell: (run) =>
          html`<a href="/ops/runs/${run.id}">${run.job}</a>${run.kind !== 'planned' && html` <span class="soft">${run.kind}</span>`}`,
      },
      { name: 'State', cell: (run) => runBadge(run.state) },
      { name: 'Slot', cell: (run) => relative(run.slot, now, timezone) },
      { name: 'Took', numeric: true, cell: (run) => took(run) },
      { name: 'Outcome', cell: (run) => outcome(run) },
    ],
  })
}

export function runPage(view: View, run: Run): Html {
  const { timezone } = view
  return html`<h1>Run of ${run.job}</h1>
<p>${runBadge(run.state)}</p>
${facts([
  ['Slot', time(run.slot, timezone)],
  ['Kind', run.kind],
  ['Asked for by', actorText(run.actor)],
  ['Queued', time(run.queued_at, timezone)],
  ['Started', time(run.started_at, timezone, 'not yet')],
  ['Ended', time(run.finished_at, timezone, 'not yet')],
  ['Took', took(run)],
  ['Attempts', run.attempt],
  ['Overdue since', time(run.overdue_at, timezone)],
  ['Too long since', time(run.overran_at, timezone)],
])}
${run.error !== null && html`<h2>Error</h2><p><code>${run.error.code}</code> ${run.error.detail}</p>`}
${run.result !== null && html`<h2>Result</h2>${json(run.result)}`}
<p><a href="/ops/runs?job=${run.job}">All runs of ${run.job}</a></p>`
}

/** How long it was at work; nothing while it is. */
export function took({ started_at: started, finished_at: finished }: Run): string {
  return started === null || finished === null ? '' : spanText(finished.getTime() - started.getTime())
}

/** The error, or the figures at the top of the result. */
export function outcome(run: Run): string {
  if (run.state === 'failed') return `${run.error?.code ?? ''}: ${run.error?.detail ?? ''}`
  const { steps, ...result } = run.result ?? {}
  const figures = Object.entries(result).flatMap(([name, value]) => (typeof value === 'number' ? [figure(name, value)] : []))
  if (Array.isArray(steps)) figures.push(`${steps.length} ${steps.length === 1 ? 'step' : 'steps'}`)
  return figures.slice(0, 4).join(', ')
}

/** `961 rows`, `duration 2 minutes`: the names of a result say their units. */
function figure(name: string, value: number): string {
  const words = (text: string) => text.replaceAll(/[A-Z]+/g, (letters) => ` ${letters.toLowerCase()}`).trim()
  if (name.endsWith('Ms')) return `${words(name.slice(0, -2))} ${spanText(value)}`
  if (name.endsWith('Bytes')) return `${words(name.slice(0, -5))} ${(value / 1e6).toFixed(1)} MB`
  return `${value.toLocaleString('en')} ${words(name)}`
}
