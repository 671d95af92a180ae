import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { listIncidents } from '../../../lib/alerts/index.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { healthKeys } from '../../doubles/health-apis.ts'
import { useTestDatabase } from '../../support/database.ts'
import { doubles } from '../../support/doubles.ts'
import { type Operations, operations } from './operations.ts'

const test = useTestDatabase()

const alone = [
  'google',
  'hume',
  'make',
  'memberstack',
  'n8n',
  'openai',
  'posthog',
  'redis',
  'sendgrid',
  'sentry',
  'stack-auth',
  'stripe',
  'twilio',
  'webflow',
]
const ofSupabase = ['supabase-auth', 'supabase-realtime', 'supabase-rest', 'supabase-storage']
const channels = ['hooks.slack.com', 'events.pagerduty.com']

type Answer = (signal: AbortSignal) => Promise<Response>

/** What each of them wants to read, all in one. */
const well: Answer = () => Promise.resolve(Response.json({ status: 'active', scopes: ['mail.send'], result: 'PONG' }))
const never = (signal: AbortSignal) =>
  new Promise<Response>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }))
const broken = (code: string) => () => Promise.reject(new TypeError('fetch failed', { cause: Object.assign(new Error(code), { code }) }))

const moods: Record<string, { answer: Answer; words: string }> = {
  slow: { answer: (signal) => delay(60_000, undefined, { signal }).then(() => well(signal)), words: 'did not answer in time' },
  hanging: { answer: never, words: 'did not answer in time' },
  refusing: { answer: broken('ECONNREFUSED'), words: 'refused the connection' },
  cutting: { answer: broken('ECONNRESET'), words: 'broke the connection' },
  failing: { answer: () => Promise.resolve(new Response('{}', { status: 500 })), words: 'answered with a server error' },
  // A parked domain, a login page of a network: all is well, it says.
  lying: {
    answer: () => Promise.resolve(new Response('<h1>Welcome!</h1>', { headers: { 'content-type': 'text/html' } })),
    words: 'answered something unexpected',
  },
}

/** Third parties in the mood that is set, and who watches them. */
async function watched(storm: false | undefined): Promise<{ made: Operations; set(answer: Answer): void }> {
  let answer = well
  const made = operations(
    test.db,
    {
      health: { checks: Object.fromEntries([...alone, 'supabase', ...ofSupabase].map((check) => [check, { timeoutMs: 300 }])) },
      alerts: { channels: { slack: {}, pagerduty: {} }, ...(storm === undefined ? {} : { storm }) },
    },
    {
      fetch: (input, init) => {
        const host = new URL(input instanceof Request ? input.url : input).hostname
        return channels.includes(host) ? fetch(input, init) : answer(init?.signal ?? new AbortController().signal)
      },
    },
  )
  const { CARETAKER_ENVIRONMENT, SLACK_WEBHOOK_URL, PAGERDUTY_ROUTING_KEY, ENCRYPTION_KEY } = made.ctx.env
  Object.assign(made.ctx, {
    env: readEnv({
      ...healthKeys,
      STRIPE_SECRET_KEY: 'sk_test_of_the_test',
      CARETAKER_ENVIRONMENT,
      SLACK_WEBHOOK_URL,
      PAGERDUTY_ROUTING_KEY,
      ENCRYPTION_KEY,
    }),
  })
  doubles.use(...made.handlers)
  await made.minutes(2)
  expect(await listIncidents(made.ctx)).toEqual([])
  const set = (next: Answer) => {
    answer = next
  }
  return { made, set }
}

it.each(Object.keys(moods))('every third party that is %s is an incident of its own, Supabase one with all its parts', async (name) => {
  const mood = moods[name] as (typeof moods)[string]
  const { made, set } = await watched(false)
  set(mood.answer)
  await made.minutes()
  const incidents = await listIncidents(made.ctx)
  expect(incidents.map(({ component }) => component).sort()).toEqual([...alone, 'supabase'].sort())
  expect(incidents.find(({ component }) => component === 'supabase')?.affected).toEqual(ofSupabase)
  expect([...new Set(incidents.map(({ title }) => title.replace(/^[^:]*: /, '')))]).toEqual([mood.words])

  set(well)
  await made.minutes(8)
  const said = await made.said()
  expect(said.filter((one) => one.startsWith('opened'))).toHaveLength(alone.length + 1)
  expect(said.filter((one) => one.startsWith('resolved'))).toHaveLength(alone.length + 1)
  expect(said).toHaveLength(2 * (alone.length + 1))
  expect(made.pagerDuty.incidents.map(({ state, repeats }) => `${state} ${repeats}`)).toEqual(Array(alone.length + 1).fill('resolved 0'))
})

it('all of them at once, as when our own network is gone, are one incident and one page, and so is their end', async () => {
  const { made, set } = await watched(undefined)
  set(broken('ENETUNREACH'))
  await made.minutes(2)
  const title = `${alone.length + 1} dependencies began to fail together`
  expect(await listIncidents(made.ctx)).toMatchObject([{ title: expect.stringContaining(title), component: 'several-dependencies' }])
  const { affected = [] } = (await listIncidents(made.ctx))[0] ?? {}
  expect([...affected].sort()).toEqual([...alone, 'supabase', ...ofSupabase].sort())
  for (const name of [...alone, 'supabase']) expect(made.slack.sent[0]?.body).toContain(`${name}: `)
  set(well)
  await made.minutes(8)
  expect(await made.said()).toEqual(['opened several-dependencies', 'resolved several-dependencies'])
  expect(made.pagerDuty.incidents).toMatchObject([{ state: 'resolved', repeats: 0 }])
})
