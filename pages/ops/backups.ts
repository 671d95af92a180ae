import type { Loss, PinnedSigner } from '../../lib/backup/index.ts'
import type { Run } from '../../lib/jobs/index.ts'
import { type Html, html } from '../html.ts'
import { facts, table } from '../parts.ts'
import { relative, spanText, time } from '../time.ts'
import { outcome, runBadge, took } from './runs.ts'
import { builders, may, postButton, type View } from './shell.ts'

/** What it would cost if the database died now: recovery point and recovery time, in a sentence. */
export function lossSentence(loss: Loss | null): string {
  if (loss === null || loss.lostMs === null) return 'If the database died now, everything would be lost: there is no backup to count on.'
  const lost = `If the database died now, ${spanText(loss.lostMs)} of data would be lost`
  return loss.openAgainMs === null
    ? `${lost}. How long a restore takes is not known: there was no drill yet.`
    : `${lost}, and it would be open again in about ${spanText(loss.openAgainMs)}, by the last drill.`
}

export interface BackupsShown {
  loss: Loss | null
  signers: readonly PinnedSigner[]
  /** Newest first. */
  backups: readonly Run[]
  drills: readonly Run[]
  increments: readonly Run[]
  /** Which of the jobs the policy has. */
  jobs: readonly string[]
}

export function backupsPage(view: View, { loss, signers, backups, drills, increments, jobs }: BackupsShown): Html {
  const { timezone, now } = view
  const buttons = (
    [
      ['backup', 'Back up now'],
      ['backup-increment', 'Take an increment now'],
      ['backup-verify', 'Drill now'],
    ] as const
  ).filter(([job]) => jobs.includes(job))
  const runs = (job: string, caption: string, empty: string, rows: readonly Run[]) =>
    html`${table({
      caption,
      empty,
      rows,
      columns: [
        { name: 'When', cell: (run) => html`<a href="/ops/runs/${run.id}">${time(run.slot, timezone)}</a>` },
        { name: 'State', cell: (run) => runBadge(run.state) },
        {
          name: 'Took',
          numeric: true,
          cell: took,
        },
        { name: 'Outcome', cell: outcome },
      ],
    })}${rows.length > 0 && html`<p><a href="/ops/runs?job=${job}">More of them</a></p>`}`
  return html`<h1>Backups</h1>
<div class="card"><p>${lossSentence(loss)}</p>
${facts([
  ['Covered until', loss === null || loss.coveredUntil === null ? 'nothing' : time(new Date(loss.coveredUntil), timezone)],
  ['Data lost (RPO)', loss === null || loss.lostMs === null ? 'everything' : spanText(loss.lostMs)],
  ['Open again (RTO)', loss === null || loss.openAgainMs === null ? 'not known' : spanText(loss.openAgainMs)],
  ['Last drill', loss === null || loss.drilledAt === null ? 'never' : relative(new Date(loss.drilledAt), now, timezone)],
])}
${may(view, builders) && buttons.length > 0 && html`<div class="acts">${buttons.map(([job, text]) => postButton(view, { action: `/ops/jobs/${job}/run`, text, look: 'quiet', fields: { back: 'backups' } }))}</div>`}</div>
<h2>Backups</h2>
${runs('backup', 'The newest backups, by their runs', 'The job has made none yet. What the command line made is in the store alone.', backups)}
<h2>Drills</h2>
<p class="soft">A drill restores a backup into a scratch database, compares all of it, and measures how long it takes.</p>
${runs('backup-verify', 'The newest drills', 'The job has made none yet.', drills)}
${jobs.includes('backup-increment') && html`<h2>Increments</h2>${runs('backup-increment', 'The newest increments', 'The job has taken none yet.', increments)}`}
<h2>Signers</h2>
${table({
  caption: 'Keys that have signed backups of this database',
  empty: 'None yet.',
  rows: signers,
  columns: [
    { name: 'Public key', cell: ({ publicKey }) => html`<code>${publicKey}</code>` },
    { name: 'First used', cell: ({ firstUsedAt }) => time(firstUsedAt, timezone) },
    { name: 'Last used', cell: ({ lastUsedAt }) => time(lastUsedAt, timezone) },
  ],
})}
<p class="soft">The store itself is asked by <code>caretaker backup list</code>, which also shows who may have written what is there.</p>`
}
