import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { environmentCipher } from '../../platform/field-cipher.ts'
import { describeError } from '../../platform/log.ts'
import { requirePolicy } from '../policy.ts'
import { identifyPerson, type Person, type ProcessorErasure, processorsOf, reach } from '../processors/index.ts'
import { findSubject } from '../subject.ts'
import type { Erasure } from './erase-subject.ts'
import { identifiersOf } from './identifiers.ts'

/** What the receipt says of one processor. `asked`: told, and it has not answered yet. */
export type ProcessorOutcome =
  | { status: 'asked' }
  | ({ status: 'erased' | 'absent' } & ProcessorErasure)
  | { status: 'by-hand'; why: string }

/**
 * Before any row goes: what the processors know the person by, and what text may name them by. Kept sealed in the checkpoint, because afterwards nothing
 * in the database would tell.
 * @throws {CaretakerError} `policy_invalid` for `ids` that name no column the person reaches
 */
export async function identify(erasure: Erasure): Promise<void> {
  const { ctx, map, id, progress } = erasure
  const policy = requirePolicy(ctx)
  if (progress.person !== undefined || progress.rows !== undefined) return
  const subject = (await findSubject(ctx.db, map, id)) ?? { id, email: undefined }
  const known = await ctx.db.transaction(
    async (tx) => {
      await tx.execute('set local row_security = off')
      const people = await identifyPerson(tx, map, subject, processorsOf(policy))
      return { people, identifiers: await identifiersOf(tx, map, policy, subject, people) } satisfies Known
    },
    { isolation: 'repeatable read', readOnly: true },
  )
  const sealed = cipher(ctx).seal(Buffer.from(JSON.stringify(known)), place(erasure))
  await erasure.keep({ person: sealed.toString('base64') })
}

/**
 * Tells every processor. That one was told is noted before it is: after a crash it is told again, which changes nothing
 * there, and the receipt still says that it was told. One that fails does not hold up the others.
 * @throws {CaretakerError} what the first of them failed with; the next attempt asks only those that have not answered
 */
export async function processors(erasure: Erasure): Promise<void> {
  const { ctx, progress } = erasure
  const all = processorsOf(requirePolicy(ctx))
  if (all.length === 0) return
  const { people } = recall(erasure)
  let failure: unknown
  const note = (name: string, outcome: ProcessorOutcome) => erasure.keep({ processors: { ...progress.processors, [name]: outcome } })
  for (const named of all) {
    const before = progress.processors?.[named.name]
    if (before !== undefined && before.status !== 'asked') continue
    const person = people[named.name]
    const processor = await reach(ctx, named)
    if (typeof processor === 'string' || person === undefined) {
      await note(named.name, { status: 'by-hand', why: typeof processor === 'string' ? processor : 'it was added to the policy meanwhile' })
      continue
    }
    erasure.say(named.name)
    await note(named.name, { status: 'asked' })
    try {
      const answer = await processor.erase(ctx, person)
      const known = Object.keys(answer.erased).length > 0 || before?.status === 'asked'
      await note(named.name, { status: known ? 'erased' : 'absent', ...answer })
    } catch (error) {
      ctx.log.warn({ err: describeError(error), processor: named.name }, 'a processor did not erase')
      failure ??= error
    }
  }
  if (failure !== undefined)
    throw failure instanceof CaretakerError
      ? failure
      : new CaretakerError('upstream_failed', 'A processor did not erase the person.', { cause: failure })
}

interface Known {
  people: Record<string, Person>
  identifiers: string[]
}

/** What `identify` noted; nothing where the rows were gone before it could. */
export function recall(erasure: Erasure): Known {
  const { ctx, progress } = erasure
  if (progress.person === undefined) return { people: {}, identifiers: [] }
  return JSON.parse(cipher(ctx).open(Buffer.from(progress.person, 'base64'), place(erasure)).toString()) as Known
}

/** Who would be told, and who must be by hand. */
export async function plannedProcessors(ctx: Context): Promise<{ name: string; byHand: string | null }[]> {
  return Promise.all(
    processorsOf(requirePolicy(ctx)).map(async (named) => {
      const processor = await reach(ctx, named)
      return { name: named.name, byHand: typeof processor === 'string' ? processor : null }
    }),
  )
}

function cipher(ctx: Context) {
  return environmentCipher(ctx.env, 'Noting what processors know a person by')
}

function place({ requestId, progress }: Erasure): string[] {
  return ['gdpr_requests', 'person', requestId ?? (progress.tags[0] as string)]
}
