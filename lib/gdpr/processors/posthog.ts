import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { ask, listIn, requireAsked, textIn } from './ask.ts'
import type { Person, Processor } from './processor.ts'

/**
 * Persons by distinct id (the user's id unless the policy names others), with their events and recordings.
 * https://posthog.com/docs/privacy/data-deletion: events are deleted at a later time, in bulk.
 */
export const posthog: Processor = {
  needs: ['POSTHOG_PERSONAL_API_KEY', 'POSTHOG_PROJECT_ID'],
  async *export(ctx, person) {
    for (const record of await persons(ctx, person)) {
      yield { kind: 'person', record }
      let next: string | undefined = `${base(ctx)}/events/?person_id=${encodeURIComponent(textIn(record, 'id') ?? '')}&limit=100`
      while (next !== undefined) {
        const { body } = await ask(ctx, 'PostHog', next, { headers: headers(ctx) })
        for (const event of listIn(body, 'results')) yield { kind: 'event', record: event }
        const following = textIn(body, 'next')
        // The key goes to this host only, whatever the answer says.
        requireAsked('PostHog', following === undefined || following.startsWith(`${base(ctx)}/`))
        next = following
      }
    }
  },
  async erase(ctx, person) {
    const found = await persons(ctx, person)
    for (const one of found)
      await ask(ctx, 'PostHog', `${base(ctx)}/persons/${encodeURIComponent(textIn(one, 'id') ?? '')}/?delete_events=true`, {
        method: 'DELETE',
        headers: headers(ctx),
        accept: [404],
      })
    return found.length === 0
      ? { erased: {} }
      : { erased: { persons: found.length }, pending: 'PostHog deletes the events of a person in bulk, at a time of low load.' }
  },
}

function base(ctx: Context): string {
  const host = (ctx.env.POSTHOG_HOST ?? 'https://us.i.posthog.com').replace(/\/+$/, '')
  // Events are sent to the "i" host of a region; everything else is asked of the region itself.
  return `${host.replace(/^https:\/\/(us|eu)\.i\.posthog\.com$/, 'https://$1.posthog.com')}/api/projects/${encodeURIComponent(requireEnv(ctx.env, 'POSTHOG_PROJECT_ID', 'Asking PostHog'))}`
}

function headers(ctx: Context): Record<string, string> {
  return { authorization: `Bearer ${requireEnv(ctx.env, 'POSTHOG_PERSONAL_API_KEY', 'Asking PostHog')}` }
}

async function persons(ctx: Context, person: Person): Promise<Record<string, unknown>[]> {
  const found = new Map<string, Record<string, unknown>>()
  const list = async (query: string) =>
    listIn((await ask(ctx, 'PostHog', `${base(ctx)}/persons/?${query}`, { headers: headers(ctx) })).body, 'results')
  for (const id of [person.id, ...person.ids]) {
    const named = await list(`distinct_id=${encodeURIComponent(id)}`)
    // A distinct id is one person's.
    requireAsked('PostHog', named.length <= 1)
    for (const one of named) found.set(textIn(one, 'id') ?? '', one)
  }
  if (person.email !== null)
    for (const one of await list(`email=${encodeURIComponent(person.email)}`)) {
      requireAsked('PostHog', textIn(one.properties, 'email')?.toLowerCase() === person.email.toLowerCase())
      found.set(textIn(one, 'id') ?? '', one)
    }
  return [...found.values()]
}
