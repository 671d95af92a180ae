import * as z from 'zod/mini'
import { html } from '../../../pages/html.ts'
import { type Flash, htmlResponse } from '../../../pages/layout.ts'
import type { Refused } from '../../../pages/ops/form.ts'
import { instantText } from '../../../pages/time.ts'
import {
  answerSubmission,
  claimSubmission,
  type Failed,
  type FormFields,
  flashCookie,
  form,
  matchPath,
  type Route,
  releaseSubmission,
  route,
  type Session,
  statusOf,
  submissionKey,
} from '../../http/index.ts'
import type { Role } from '../../platform/actor.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { type PageRoute, pageAt, problem, seeOther, signInAddress } from './page.ts'
import { showSignIn } from './sign-in.ts'

/** What a form of a page does, as a route, and as what a form that was kept comes back to. */
export interface ActionRoute extends Route {
  /** The page it ends at, with the route's parameters. */
  back: (params: Record<string, string>) => string
  /**
   * The page of the form that was sent to `address`, with what was typed and what is said of it. Null where there is no such page for
   * who is signed in.
   */
  showAgain(ctx: Context, session: Session, address: string, fields: FormFields, said: Said): Promise<Response | null>
}

interface Said {
  error?: CaretakerError
  /** In place of the error's own words. */
  flash?: Flash
  status?: number
  headers?: [name: string, value: string][]
}

interface Action<S extends z.ZodMiniType> {
  path: string
  summary: string
  roles: readonly Role[]
  fields?: S
  /** The page it ends at, with the route's parameters. */
  back: (params: Record<string, string>) => string
  /** The page whose form people type into: it comes back with what they typed where that is refused. Absent for a button alone. */
  typedOn?: (params: Record<string, string>) => string
  /** Returns what was done, in a sentence; or with the page that shows it. */
  act(
    ctx: Context,
    input: { params: Record<string, string>; fields: z.infer<S>; afterwards(work: Promise<unknown>): void },
  ): Promise<string | { text: string; to: string; tone?: 'ok' | 'none' }>
}

/**
 * What a form of a page does. It ends at a page that says what was done, and counts once, however often it is sent. What could not be
 * done is said in the words of its error: where people type on the page of the form, with what they typed.
 */
export function actionOn(pages: readonly PageRoute[]) {
  return <S extends z.ZodMiniType>(given: Action<S>): ActionRoute => {
    const showAgain: ActionRoute['showAgain'] = async (ctx, session, address, fields, { error, flash, status, headers }) => {
      const params = matchPath(given.path, address)
      const on = given.typedOn === undefined || params === null ? undefined : pageAt(pages, given.typedOn(params), session.role)
      if (on === undefined) return null
      const errors = error === undefined ? [] : mistakesOf(error, fields, ctx.config.app.timezone ?? 'UTC')
      const note = flash?.text ?? error?.detail ?? 'Nothing was done.'
      const refused: Refused = { action: address, fields, errors, note, drawn: new Map(), shown: false }
      return on.page.draw(ctx, session, on.asked, {
        refused,
        flash: () => flash ?? { tone: 'bad', ...wordsOf(refused) },
        ...(status === undefined ? {} : { status }),
        ...(headers === undefined ? {} : { headers }),
      })
    }
    return {
      ...route({
        methods: ['POST'],
        path: given.path,
        summary: given.summary,
        auth: { session: given.roles },
        limit: 'standard',
        // It is read even where nobody is signed in any more, to be kept: two of the longest texts, and no more.
        bodyLimitBytes: 512 * 1024,
        body: form(given.fields ?? z.strictObject({})),
        async handle(ctx, { params, body, request, session, once, afterwards }) {
          const fields = body as z.infer<S> & Record<string, unknown>
          const key =
            once === undefined || session === undefined ? null : submissionKey(session, once, new URL(request.url).pathname, fields)
          if (key !== null && session !== undefined) {
            const claim = await claimSubmission(ctx, session, key)
            if (!claim.first) {
              // What was typed comes back with it: the first may have ended without being done.
              if (claim.answer === null)
                throw new CaretakerError(
                  'conflict',
                  'This was sent before, and how that ended is not known yet. Look whether it is done before you send it again.',
                )
              const { to, text } = claim.answer
              return seeOther(to, flashCookie(request, { tone: 'none', text: `${text} It was sent twice, and counts once.` }, to))
            }
          }
          const done = await given.act(ctx, { params, fields, afterwards }).catch(async (error: unknown) => {
            if (key !== null) await releaseSubmission(ctx, key).catch(() => ctx.log.warn('a form that was refused stays claimed'))
            throw error
          })
          const { text, to, tone = 'ok' } = typeof done === 'string' ? { text: done, to: given.back(params) } : done
          if (key !== null)
            await answerSubmission(ctx, key, { to, text }).catch((error: unknown) =>
              ctx.log.warn({ err: error }, 'what a form has done was not kept for who sends it again'),
            )
          return seeOther(to, flashCookie(request, { tone, text }, to))
        },
        problem: (ctx, error, failed) => refuse(given, showAgain, ctx, error, failed),
      }),
      back: given.back,
      showAgain,
    }
  }
}

async function refuse(
  given: Pick<Action<z.ZodMiniType>, 'back' | 'typedOn'>,
  showAgain: ActionRoute['showAgain'],
  ctx: Context,
  error: unknown,
  failed: Failed,
): Promise<Response> {
  const { request, params, caller } = failed
  const { pathname } = new URL(request.url)
  const back = given.back(params)
  const known = error instanceof CaretakerError ? error : undefined
  const typed = given.typedOn === undefined ? null : await failed.fields()
  if (known?.code === 'unauthorized') {
    if (typed !== null && isWritten(typed)) {
      const text = 'Your session has ended, and nothing was done. Sign in: what you wrote is kept, and shown to you again.'
      const shown = { to: back, kept: { action: pathname, fields: typed }, flash: { tone: 'bad' as const, text } }
      return htmlResponse(showSignIn(ctx, request, shown), { status: 401 })
    }
    const flash = { tone: 'none' as const, text: 'Your session had ended: nothing was done.' }
    return seeOther(signInAddress(back), flashCookie(request, flash, '/ops/sign-in'))
  }
  // Another's failure, and a setting that is missing, are said like a mistake; a defect of our own has a page of its own.
  const ordinary = known !== undefined && (statusOf[known.code] < 500 || ['not_configured', 'upstream_failed'].includes(known.code))
  if (ordinary && typed !== null && caller !== undefined) {
    const again = await showAgain({ ...ctx, actor: caller.actor }, caller.session, pathname, typed, {
      error: known,
      status: statusOf[known.code],
      headers: known.retryAfterSeconds === undefined ? [] : [['retry-after', String(known.retryAfterSeconds)]],
      // Who is signed in may do this: what is not theirs is the form, of an earlier session.
      ...(known.code === 'forbidden' ? { flash: { tone: 'bad', text: signedInAgain } } : {}),
    }).catch(() => null)
    if (again !== null) return again
  }
  if (ordinary && known.code !== 'forbidden') {
    // What is done already, by somebody else or in another window, is no mistake.
    const tone = known.code === 'conflict' ? 'none' : 'bad'
    return seeOther(back, flashCookie(request, { tone, text: known.detail }, back))
  }
  return problem(ctx, error, { ...failed, back, typed })
}

const signedInAgain = 'Nothing was done: you have signed in again since this page was opened. Look at what you wrote, and send it again.'

/** Who asks an action's address for a page, such as after signing in or from the history, gets the one that it belongs to. */
export function wayBack({ path, back }: ActionRoute): Route {
  return route({
    methods: ['GET'],
    path,
    summary: 'The page of this form',
    auth: 'public',
    limit: 'standard',
    handle: async (_ctx, { params }) => seeOther(back(params)),
    problem: (ctx, error, failed) => problem(ctx, error, { ...failed, back: '/ops' }),
  })
}

function isWritten(fields: FormFields): boolean {
  return Object.values(fields).some((value) => [value].flat().some((one) => one.trim() !== ''))
}

/** What is wrong with which field. A verb's own message begins with the name of the field. */
function mistakesOf(error: CaretakerError, fields: FormFields, timezone: string): { name: string; message: string }[] {
  const said = /^([a-zA-Z]+): ([\s\S]+)$/.exec(error.detail)
  const issues = error.issues.length > 0 ? error.issues : said === null ? [] : [{ path: said[1] ?? '', message: said[2] ?? '' }]
  return issues.flatMap(({ path, message }) => {
    const name = path.split('.')[0] ?? ''
    const value = fields[name]
    if (value === undefined && error.issues.length === 0) return []
    const empty = typeof value === 'string' && value.trim() === ''
    // What was found is what stands in the field, and times are read there in the app's zone.
    const expected = message.replace(/^found [\s\S]*?, (?=expected)/, '').replace(/\.$/, '')
    const said = expected.replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (at) => instantText(new Date(at), timezone))
    return [{ name, message: empty ? 'must not be empty' : said }]
  })
}

/** What is said at the top of the page: each mistake, with the way to its field. */
function wordsOf({ errors, note, drawn }: Refused): Pick<Flash, 'text' | 'linked'> {
  if (errors.length === 0) return { text: note }
  const said = errors.map(({ name, message }) => {
    const place = drawn.get(name)
    const label = place?.label ?? name
    return {
      text: `${label}: ${message}`,
      linked: html`${place === undefined ? label : html`<a href="#${place.id}">${label}</a>`}: ${message}`,
    }
  })
  return {
    text: `${said.map(({ text }) => text).join('. ')}. Nothing was done.`,
    linked: html`${said.map(({ linked }) => html`${linked}. `)}Nothing was done.`,
  }
}
