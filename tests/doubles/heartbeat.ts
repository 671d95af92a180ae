import { delay, HttpResponse, http } from 'msw'

export interface HeartbeatState {
  /** The check's name, what happened, and the run, in the order in which they came. */
  pings: string[]
  /** Answer with this status instead. */
  failWith?: number
  /** Never answers. */
  hangs?: boolean
}

export function heartbeatState(): HeartbeatState {
  return { pings: [] }
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** Takes pings as healthchecks.io does: `/KEY/SLUG`, `/start` or `/fail` behind it, and a run's UUID as `rid`. */
export function heartbeatApi(state: HeartbeatState) {
  return [
    http.get('https://hc.test/ping-key/*', async ({ request }) => {
      if (state.hangs === true) await delay('infinite')
      const { pathname, searchParams } = new URL(request.url)
      const [, , slug = '', event = 'success', ...more] = pathname.split('/')
      const rid = searchParams.get('rid')
      if (!/^[a-z0-9_-]+$/.test(slug) || !['success', 'start', 'fail'].includes(event) || more.length > 0)
        return HttpResponse.text('not found', { status: 404 })
      if (rid !== null && !uuid.test(rid)) return HttpResponse.text('invalid uuid', { status: 400 })
      if (state.failWith !== undefined) return HttpResponse.text('', { status: state.failWith })
      state.pings.push([slug, event, ...(rid === null ? [] : [rid])].join(' '))
      return HttpResponse.text('OK')
    }),
  ]
}
