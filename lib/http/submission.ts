import { createHash } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import type { Context } from '../platform/context.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import type { Session } from './session.ts'

/** Where a form ended, and what was said there. */
export interface SubmissionAnswer {
  to: string
  text: string
}

/** How often the second of two presses looks for what became of the first, and how long it waits before each look. */
const looks = 8
const betweenMs = 100

/**
 * What makes two forms one: the session, the page as it was shown (`once` is in each of its forms), where it is sent to, and all that
 * it holds. Who goes back and writes something else sends another form.
 */
export function submissionKey(session: Session, once: string, path: string, fields: Readonly<Record<string, unknown>>): Buffer {
  const sorted = Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256')
    .update(JSON.stringify([session.id, once, path, sorted]))
    .digest()
}

/**
 * Claims the form for this request. Of two presses of one button the second comes here, too, and is told what the first one said; where
 * that was refused meanwhile, the second is the first. `answer` is null while the first is still at work, and where it ended without
 * being able to say how: the database went away under it. In a database that is older than this code every form is the first: whoever
 * is on call acknowledges before they migrate.
 */
export async function claimSubmission(
  ctx: Pick<Context, 'db' | 'clock' | 'log'>,
  session: Session,
  key: Buffer,
): Promise<{ first: true } | { first: false; answer: SubmissionAnswer | null }> {
  for (let look = 1; ; look++) {
    if (await claim(ctx, session, key)) return { first: true }
    const [before] = await ctx.db.query<{ answer: SubmissionAnswer | null }>(
      'select answer from caretaker.submissions where key = $1::bytea',
      [key],
    )
    if (look >= looks || (before !== undefined && before.answer !== null)) return { first: false, answer: before?.answer ?? null }
    if (before !== undefined) await pause(betweenMs)
  }
}

async function claim(ctx: Pick<Context, 'db' | 'clock' | 'log'>, session: Session, key: Buffer): Promise<boolean> {
  const claimed = await ctx.db
    .execute(
      'insert into caretaker.submissions (key, session_id, at) values ($1::bytea, $2::uuid, $3::timestamptz) on conflict (key) do nothing',
      [key, session.id, ctx.clock.now()],
    )
    .catch((error: unknown) => {
      if (sqlState(error) !== '42P01') throw error
      ctx.log.warn('forms may count twice: the database lacks caretaker.submissions; run `caretaker db migrate`')
      return 1
    })
  return claimed === 1
}

export async function answerSubmission(ctx: Pick<Context, 'db'>, key: Buffer, answer: SubmissionAnswer): Promise<void> {
  await ctx.db.execute('update caretaker.submissions set answer = $2::jsonb where key = $1::bytea', [key, JSON.stringify(answer)])
}

/** Nothing was done: the same form may come again. */
export async function releaseSubmission(ctx: Pick<Context, 'db'>, key: Buffer): Promise<void> {
  await ctx.db.execute('delete from caretaker.submissions where key = $1::bytea', [key])
}

/**
 * A sign-in that is answered with a page, and not by leading to one, stays in the browser's history with its key or password: whoever
 * sits there next could go back and send it again. It counts no longer than the session that it opened.
 * @throws {CaretakerError} `unauthorized`
 */
export async function assertSignInCounts(ctx: Pick<Context, 'db' | 'clock'>, once: string): Promise<void> {
  const over = await ctx.db
    .query(
      `select from caretaker.submissions u join caretaker.sessions s on s.id = u.session_id
       where u.key = $1::bytea and (s.ended_at is not null or s.expires_at <= $2::timestamptz)`,
      [signInKey(once), ctx.clock.now()],
    )
    .catch((error: unknown) => {
      if (sqlState(error) !== '42P01') throw error
      return []
    })
  if (over.length > 0) throw new CaretakerError('unauthorized', 'The session of this form is over: type again what you sign in with.')
}

/** Notes whose sign-in it was. Sent again while that session is open, it is the newer one's. */
export async function noteSignIn(ctx: Pick<Context, 'db' | 'clock' | 'log'>, session: Session, once: string): Promise<void> {
  await ctx.db
    .execute(
      `insert into caretaker.submissions (key, session_id, at) values ($1::bytea, $2::uuid, $3::timestamptz)
       on conflict (key) do update set session_id = excluded.session_id`,
      [signInKey(once), session.id, ctx.clock.now()],
    )
    .catch((error: unknown) => ctx.log.warn({ err: error }, 'a sign-in may be sent again after its session'))
}

function signInKey(once: string): Buffer {
  return createHash('sha256').update('caretaker:sign-in:v1\0').update(once).digest()
}
