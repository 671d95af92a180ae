import type { ProcessorPolicy } from '../../config/index.ts'
import { nearest } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import type { Queryable } from '../../platform/db.ts'
import { identifier } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { SubjectMap } from '../map/subject-map.ts'
import { keySets, rowsOf, subjectSetting } from '../rows/membership.ts'
import type { Person, Processor } from './processor.ts'

export type { Person, ProcessorErasure } from './processor.ts'

const known: Record<string, () => Promise<Processor>> = {
  stripe: async () => (await import('./stripe.ts')).stripe,
  posthog: async () => (await import('./posthog.ts')).posthog,
  sendgrid: async () => (await import('./sendgrid.ts')).sendgrid,
  twilio: async () => (await import('./twilio.ts')).twilio,
  memberstack: async () => (await import('./memberstack.ts')).memberstack,
}

/** A processor of the policy: with `open` null it is asked by hand, for the reason given. */
export interface NamedProcessor {
  name: string
  ids: readonly string[]
  open: (() => Promise<Processor>) | null
  byHand: string | null
}

/** The policy's processors, in its order. */
export function processorsOf(policy: { processors?: ProcessorPolicy[] | undefined }): NamedProcessor[] {
  return (policy.processors ?? []).map((entry) => {
    if (typeof entry === 'string') return { name: entry, ids: [], open: known[entry] ?? null, byHand: null }
    if ('processor' in entry) {
      const ids = entry.ids === undefined ? [] : typeof entry.ids === 'string' ? [entry.ids] : entry.ids
      return { name: entry.processor, ids, open: known[entry.processor] ?? null, byHand: null }
    }
    if ('url' in entry)
      return { name: entry.name, ids: [], open: async () => (await import('./http.ts')).httpProcessor(entry.name, entry.url), byHand: null }
    return { name: entry.name, ids: [], open: null, byHand: entry.manual }
  })
}

/** The processor, or why it cannot be asked. */
export async function reach(ctx: Pick<Context, 'env'>, named: NamedProcessor): Promise<Processor | string> {
  if (named.open === null) return named.byHand ?? 'there is no interface to it'
  const processor = await named.open()
  const missing = processor.needs.filter((variable) => ctx.env[variable] === undefined)
  return missing.length === 0 ? processor : `${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} not set`
}

/**
 * What each processor knows the person by, read while their rows are still there. In the caller's transaction.
 * @throws {CaretakerError} `policy_invalid` for a column that is not in a table the person reaches
 */
export async function identifyPerson(
  tx: Queryable,
  map: SubjectMap,
  subject: { id: string; email: string | undefined },
  processors: readonly NamedProcessor[],
): Promise<Record<string, Person>> {
  await tx.query(`select set_config('${subjectSetting}', $1, true)`, [subject.id])
  const people: Record<string, Person> = {}
  for (const { name, ids } of processors) {
    const values = new Set<string>()
    for (const place of ids) {
      const { table, column } = locate(map, place, name)
      const { prefix, source } = keySets(map, [table.key])
      const rows = await tx.query<{ value: string }>(
        `${prefix}select distinct value from (${rowsOf(map, table, `t.${identifier(column)}::text as value`, source)}) as mine where btrim(value) <> ''`,
      )
      for (const { value } of rows) values.add(value)
    }
    // A blank one is no name: an interface that is asked for "" answers with everybody.
    people[name] = { id: subject.id, email: subject.email ?? null, ids: [...values] }
  }
  return people
}

function locate(map: SubjectMap, place: string, processor: string) {
  const parts = place.split('.')
  const column = parts.pop() as string
  const key = parts.length === 1 ? `public.${parts[0]}` : parts.join('.')
  const table = map.tables.get(key)
  if (table === undefined) {
    const near = nearest(key, [...map.tables.keys()])
    throw new CaretakerError(
      'policy_invalid',
      `gdpr.processors (${processor}): found "${place}", expected a table that the person reaches${near === undefined ? '' : `; did you mean "${near}"?`}`,
    )
  }
  if (!table.table.columns.some(({ name }) => name === column)) {
    const near = nearest(
      column,
      table.table.columns.map(({ name }) => name),
    )
    throw new CaretakerError(
      'policy_invalid',
      `gdpr.processors (${processor}): ${key} has no column "${column}"${near === undefined ? '' : `; did you mean "${near}"?`}`,
    )
  }
  return { table, column }
}
