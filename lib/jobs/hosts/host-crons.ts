import { isScheduled, type Job } from '../job.ts'
import { firingsADay, onceADay, utcCrons } from './utc-crons.ts'

export const platforms = ['netlify', 'vercel'] as const
export const plans = ['hobby', 'pro'] as const
export type Platform = (typeof platforms)[number]
export type Plan = (typeof plans)[number]

export interface HostCrons {
  /** In the order the host's file lists them. */
  crons: { path: string; schedule: string }[]
  /** What the host cannot do, and what to do about it. */
  notes: string[]
}

/** Vercel: per project, on every plan. https://vercel.com/docs/cron-jobs/usage-and-pricing */
const mostCrons = 100
const everyMinute = '* * * * *'

/** The clock that Caretaker needs at least: the tick finds every slot that is due. */
export const netlifySchedule = everyMinute

/**
 * What Vercel's clock should call: the tick every minute, which fires what is due each minute, and every other job at its own time as
 * well, so that neither a lost tick nor a lost firing is missed. The Hobby plan fires a cron once a day at most, some time within its hour.
 */
export function vercelCrons(jobs: readonly Job[], plan: Plan): HostCrons {
  const own = jobs.filter(isScheduled).map(({ name, schedule }) => ({ name, schedule, crons: utcCrons(schedule) }))
  if (plan === 'pro') {
    const crons = own.flatMap(({ name, crons: each }) =>
      each.filter((schedule) => schedule !== everyMinute).map((schedule) => ({ path: `/api/cron/${name}`, schedule })),
    )
    if (crons.length < mostCrons) return { crons: [{ path: '/api/cron/tick', schedule: everyMinute }, ...crons], notes: [] }
    return {
      crons: [{ path: '/api/cron/tick', schedule: everyMinute }],
      notes: [`${crons.length} firings are more than the ${mostCrons} crons of a Vercel project: the tick alone fires them all.`],
    }
  }
  const daily = own.filter(({ schedule }) => firingsADay(schedule.cron) === 1)
  const tooOften = own.filter(({ schedule }) => firingsADay(schedule.cron) > 1)
  const hasty = daily.filter(({ schedule }) => schedule.startGraceMs < 3_600_000)
  const crons = [
    { path: '/api/cron/tick', schedule: '0 0 * * *' },
    ...daily.flatMap(({ name, crons: each }) => each.flatMap(onceADay).map((schedule) => ({ path: `/api/cron/${name}`, schedule }))),
  ]
  const notes = [
    ...tooOften.map(
      ({ name, schedule }) =>
        `${name} (${schedule.cron}) is left out: it fires more than once a day, and the Hobby plan rejects a deploy with such a cron.`,
    ),
    ...(tooOften.length > 0
      ? [
          'Let another clock call GET /api/cron/tick every minute, or every five, with "Authorization: Bearer $CRON_SECRET": a Netlify site, pg_cron with pg_net, a GitHub workflow, any pinger. It fires every job.',
        ]
      : []),
    ...(hasty.length > 0
      ? [
          `The Hobby plan fires up to 59 minutes late: without another clock give ${hasty.map(({ name }) => name).join(', ')} a startGrace of "1 hour", or each firing is told as missed.`,
        ]
      : []),
  ]
  if (crons.length <= mostCrons) return { crons, notes }
  return {
    crons: crons.slice(0, mostCrons),
    notes: [...notes, `${crons.length} firings are more than the ${mostCrons} crons of a Vercel project: the last ones are left out.`],
  }
}
