import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { subjectTag } from '../../platform/log.ts'
import { keyIdOf } from './receipt.ts'
import { readTombstones } from './tombstone.ts'

/**
 * Tells whether an id is of a person who has been erased, from the journal in the object store: for what is restored
 * outside of the database, such as files.
 * @throws {CaretakerError} `not_configured` when there are erasures and ENCRYPTION_KEY is not the one they were journalled with
 */
export async function erasedPeople(ctx: Pick<Context, 'objects' | 'env'>): Promise<(id: string) => boolean> {
  const tombstones = await readTombstones(await ctx.objects())
  if (tombstones.length === 0) return () => false
  const key = requireEnv(ctx.env, 'ENCRYPTION_KEY', 'Leaving out who was erased after the backup')
  const keyId = keyIdOf(Buffer.from(key, 'hex'))
  const foreign = tombstones.filter((tombstone) => tombstone.keyId !== keyId).length
  if (foreign > 0)
    throw new CaretakerError(
      'not_configured',
      `${foreign} tombstones were written under another ENCRYPTION_KEY; restore with that key, or these people come back.`,
    )
  const erased = new Set(tombstones.map(({ subject }) => subject))
  return (id) => erased.has(subjectTag(key, id))
}
