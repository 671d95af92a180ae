import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { readCatalogue } from './map/catalogue.ts'
import type { GdprPolicy } from './map/policy-names.ts'
import { buildSubjectMap, type SubjectMap } from './map/subject-map.ts'

/** The policy's GDPR part. @throws {CaretakerError} `not_configured` where there is none */
export function requirePolicy(ctx: Pick<Context, 'config'>): GdprPolicy {
  const { gdpr } = ctx.config
  if (gdpr === undefined)
    throw new CaretakerError(
      'not_configured',
      "The policy names no subject. Add gdpr: { subject: { table: 'auth.users' } } with the table that a person is a row of.",
    )
  return gdpr
}

/** The subject map of the live database under the policy. */
export async function readSubjectMap(ctx: Pick<Context, 'config' | 'db'>): Promise<SubjectMap> {
  return buildSubjectMap(await readCatalogue(ctx.db), requirePolicy(ctx))
}
