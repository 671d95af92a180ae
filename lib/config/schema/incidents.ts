import * as z from 'zod/mini'
import { durationExpected, durationMs, isDuration } from '../duration.ts'
import { line, name, zone } from './primitives.ts'

const longest = '90 days'

/** A duration, or `word`. What is shorter than a minute is between two looks, and what is longer than a quarter nobody waits for. */
const durationOr = (word: string) =>
  z.string().check(
    z.refine((value) => value === word || isDuration(value), `${durationExpected}, or "${word}"`),
    z.refine(
      (value) => !isDuration(value) || (durationMs(value) >= 60_000 && durationMs(value) <= durationMs(longest)),
      `expected "1 minute" to "${longest}", or "${word}"`,
    ),
  )

const channelNames = z.array(name)

const severity = z.strictObject({
  description: z.optional(line(500)),
  /** By when somebody has to acknowledge: a duration, or "next business day". */
  respondWithin: z.optional(durationOr('next business day')),
  /** When `escalateTo` is told unless somebody acknowledges; at once where it is "immediately". Default: when the time to respond is over. */
  escalateAfter: z.optional(durationOr('immediately')),
  /** Channels of `alerts.channels`. Default, where `escalateAfter` is given: all of them. */
  escalateTo: z.optional(
    channelNames.check(z.minLength(1, 'expected at least one channel: an escalation to nobody is none; leave out when it comes, too')),
  ),
  /** The channels that are told of the incident. Default: all; an empty list for none. */
  notify: z.optional(channelNames),
  /** Whether the status page shows it from the beginning. Default false. */
  public: z.optional(z.boolean()),
  /** What the status page calls it. Default by its place in the order: critical, major, minor, and none after that. */
  impact: z.optional(z.enum(['critical', 'major', 'minor', 'none'])),
})

/** Where it says whom it escalates to and never when, nobody would ever be. */
const severityThatEscalates = severity.check(
  z.refine(({ escalateTo, escalateAfter, respondWithin }) => escalateTo === undefined || (escalateAfter ?? respondWithin) !== undefined, {
    error: 'expected "escalateAfter" or "respondWithin" beside it, or it would never come to that',
    path: ['escalateTo'],
  }),
)

export type SeverityPolicy = z.output<typeof severity>

/** An object lists keys that look like whole numbers first, whatever order they were written in. */
const severityName = z.string().check(z.regex(/^[A-Za-z][\w-]{0,31}$/, 'expected a letter, then letters, digits, "_" or "-"'))

const weekdays = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const
const weekday = z.enum(weekdays, `expected days out of ${weekdays.join(', ')}`)
const timeOfDay = z.string().check(z.regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'expected a time such as "09:00"'))

export const incidents = z.strictObject({
  /** From the most severe to the least, by name. Default: P0 to P3. */
  severities: z.optional(
    z.record(severityName, severityThatEscalates).check(
      z.refine((all) => Object.keys(all).length > 0, 'expected at least one severity'),
      z.refine(
        (all) => new Set(Object.keys(all).map((one) => one.toLowerCase())).size === Object.keys(all).length,
        'expected names that differ in more than upper and lower case',
      ),
    ),
  ),
  /** What is to be done about every incident, in order. */
  checklist: z.optional(z.array(line()).check(z.maxLength(50))),
  /** What "next business day" goes by. Default: Monday to Friday, until 17:00 in `app.timezone`. */
  businessHours: z.optional(
    z.strictObject({
      days: z.optional(z.array(weekday).check(z.minLength(1, 'expected at least one day'))),
      until: z.optional(timeOfDay),
      timezone: z.optional(zone),
      /** Days on which nobody works, as "2026-12-25". */
      holidays: z.optional(
        // A day that no calendar has would only be found out by the first incident that asks for business days.
        z.array(z.iso.date({ error: 'expected a day such as "2026-12-25"' })),
      ),
    }),
  ),
})

export type IncidentsPolicy = z.output<typeof incidents>

/** Where the policy says nothing: four severities, from an outage to a blemish. */
export const defaultSeverities: Readonly<Record<string, SeverityPolicy>> = {
  P0: {
    description: 'Complete outage, data breach or security incident',
    respondWithin: '15 minutes',
    escalateAfter: 'immediately',
    public: true,
  },
  P1: {
    description: 'Partial outage, or performance worse by more than half',
    respondWithin: '30 minutes',
    escalateAfter: '1 hour',
    public: true,
  },
  P2: {
    description: 'A feature is unavailable, or performance is worse by less than half',
    respondWithin: '2 hours',
    escalateAfter: '4 hours',
  },
  P3: { description: 'Minor issues and cosmetic bugs', respondWithin: '24 hours', escalateAfter: '48 hours' },
}

export const defaultChecklist: readonly string[] = [
  'Acknowledge the alert',
  'Create an incident channel (#incident-YYYY-MM-DD-description)',
  'Assess impact and severity',
  'Implement immediate mitigation',
  'Update the status page',
  'Begin root cause analysis',
  'Deploy a fix',
  'Write the post-mortem',
]
