import { createHash } from 'node:crypto'
import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { parseWebhookSecrets, signWebhook } from '../../platform/standard-webhooks.ts'
import { ask, listIn } from './ask.ts'
import type { Person, Processor } from './processor.ts'

/**
 * A service that the policy names by URL. It is sent `{ "action": "export" | "erase", "person": { "id", "email" } }`, signed
 * by Standard Webhooks, and answers `{ "records": [{ "kind", … }] }` or `{ "erased": { "kind": count }, "pending": "…"? }`; 404
 * says that it does not know the person.
 */
export function httpProcessor(name: string, url: string): Processor {
  const call = async (ctx: Context, action: 'export' | 'erase', { id, email }: Person) => {
    const keys = parseWebhookSecrets(requireEnv(ctx.env, 'GDPR_PROCESSOR_SECRET', `Asking ${name}`), 'GDPR_PROCESSOR_SECRET')
    const body = JSON.stringify({ action, person: { id, email } })
    return ask(ctx, name, url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        // The same for every attempt, so that a repeated call can be told.
        ...signWebhook(keys, {
          id: `gdpr_${createHash('sha256').update(body).digest('hex').slice(0, 32)}`,
          timestamp: ctx.clock.now(),
          body,
        }),
      },
      body,
      accept: [404],
    })
  }
  return {
    needs: ['GDPR_PROCESSOR_SECRET'],
    async *export(ctx, person) {
      const { status, body } = await call(ctx, 'export', person)
      if (status === 404) return
      for (const record of listIn(body, 'records')) yield { kind: typeof record.kind === 'string' ? record.kind : name, record }
    },
    async erase(ctx, person) {
      const { id, email } = person
      const { status, body } = await call(ctx, 'erase', person)
      if (status === 404) return { erased: {} }
      const { erased, pending } = (body ?? {}) as { erased?: unknown; pending?: unknown }
      if (typeof erased !== 'object' || erased === null || Object.values(erased).some((count) => !Number.isInteger(count)))
        throw new CaretakerError('upstream_failed', `${name} did not say what it erased; expected { "erased": { "kind": count } }.`)
      const kinds = Object.keys(erased)
      if (kinds.length > 50 || kinds.some((kind) => !/^[\w .-]{1,60}$/.test(kind)))
        throw new CaretakerError('upstream_failed', `${name} named kinds of records in "erased" that are no names of kinds.`)
      // The receipt outlives the person.
      const names = [id, email].some(
        (one) => one !== null && typeof pending === 'string' && pending.toLowerCase().includes(one.toLowerCase()),
      )
      return {
        erased: erased as Record<string, number>,
        ...(typeof pending === 'string' && !names ? { pending: pending.slice(0, 200) } : {}),
      }
    },
  }
}
