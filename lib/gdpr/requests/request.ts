import type { Context } from '../../platform/context.ts'
import type { Queryable } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'

export type RequestKind = 'export' | 'erase' | 'rectify'
/** By the person's own token, by an operator who knows who asks, or by a code mailed to the address in the database. */
export type Verification = 'token' | 'operator' | 'link'
export type RequestState = 'received' | 'verified' | 'in_progress' | 'waiting' | 'done' | 'refused'

/** A data subject's request, as it may be shown: it names the person only by a keyed hash. */
export interface GdprRequest {
  id: string
  kind: RequestKind
  state: RequestState
  subjectHash: string
  receivedAt: Date
  verifiedBy: Verification | null
  /** Until then the person can take it back; it begins afterwards. */
  notBefore: Date | null
  /** Whether an operator must approve it, or has. */
  review: 'needed' | 'approved' | null
  /** One calendar month after it was received (Art. 12(3)), three where it was extended. */
  dueAt: Date
  extendedAt: Date | null
  extensionReason: string | null
  /** When the file of a finished export is deleted. */
  fileExpiresAt: Date | null
  finishedAt: Date | null
  reason: string | null
  receipt: Record<string, unknown> | null
}

export const requestColumns = `id, kind, state, subject_hash as "subjectHash", verified_by as "verifiedBy", not_before as "notBefore", review, received_at as "receivedAt", due_at as "dueAt",
  extended_at as "extendedAt", extension_reason as "extensionReason", file_expires_at as "fileExpiresAt",
  finished_at as "finishedAt", reason, receipt`

export type RequestRow = GdprRequest & Record<string, unknown>

/** Whether Caretaker's tables are in this database. */
export async function isInstalled(db: Queryable): Promise<boolean> {
  const [row] = await db.query<{ there: boolean }>(`select to_regclass('caretaker.gdpr_requests') is not null as there`)
  return row?.there === true
}

/** @throws {CaretakerError} `not_found` */
export async function getRequest(ctx: { db: Queryable }, id: string): Promise<GdprRequest> {
  const known = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)
  const [row] = known
    ? await ctx.db.query<RequestRow>(`select ${requestColumns} from caretaker.gdpr_requests where id = $1::uuid`, [id])
    : []
  if (row === undefined) throw new CaretakerError('not_found', 'There is no request with that id.')
  return row
}

/** Open requests, up to five hundred, the one that is due first in front; then the newest hundred of those that have ended. Empty where Caretaker is not installed. */
export async function listRequests(ctx: Pick<Context, 'db'>): Promise<GdprRequest[]> {
  if (!(await isInstalled(ctx.db))) return []
  return ctx.db.query<RequestRow>(
    // By the deadline: the newest ones in front would leave out the one that is overdue.
    `(select ${requestColumns} from caretaker.gdpr_requests where finished_at is null order by due_at, received_at limit 500)
     union all
     (select ${requestColumns} from caretaker.gdpr_requests where finished_at is not null order by received_at desc limit 100)`,
  )
}

/** How many requests are open, and when the first of them is due. None where Caretaker is not installed. */
export async function countOpenRequests(ctx: Pick<Context, 'db'>): Promise<{ open: number; firstDueAt: Date | null }> {
  if (!(await isInstalled(ctx.db))) return { open: 0, firstDueAt: null }
  const [row] = await ctx.db.query<{ open: number; firstDueAt: Date | null }>(
    'select count(*)::int as open, min(due_at) as "firstDueAt" from caretaker.gdpr_requests where finished_at is null',
  )
  return row ?? { open: 0, firstDueAt: null }
}
