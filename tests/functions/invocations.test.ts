import { afterEach, describe, expect, it } from 'vitest'
import { netlifyInvocation, netlifyLimitsMs } from '../../lib/http/hosts/netlify.ts'
import { vercelInvocation } from '../../lib/http/hosts/vercel.ts'

const started = new Date('2026-11-21T02:00:00Z')
const vercelContext = Symbol.for('@vercel/request-context')

describe('Netlify', () => {
  it('tells the address it saw itself, and hands on work after the answer', () => {
    const kept: Promise<unknown>[] = []
    const invocation = netlifyInvocation(
      { ip: '203.0.113.9', waitUntil: (work) => void kept.push(work) },
      started,
      netlifyLimitsMs.synchronous,
    )
    const work = Promise.resolve()
    invocation.waitUntil(work)
    expect([invocation.clientAddress, kept]).toEqual(['203.0.113.9', [work]])
  })

  it.each([
    ['synchronous', '2026-11-21T02:00:58Z'],
    ['scheduled', '2026-11-21T02:00:28Z'],
    ['background', '2026-11-21T02:14:58Z'],
  ] as const)('ends a %s function two seconds before the host does', (kind, deadline) => {
    expect(netlifyInvocation(undefined, started, netlifyLimitsMs[kind]).deadline).toEqual(new Date(deadline))
  })
})

describe('Vercel', () => {
  afterEach(() => {
    Reflect.deleteProperty(globalThis, vercelContext)
  })

  it('believes the header that its edge overwrites, and not the one a caller can lengthen', () => {
    const request = new Request('https://caretaker.example/', {
      headers: { 'x-real-ip': '203.0.113.9', 'x-forwarded-for': '198.51.100.1' },
    })
    expect(vercelInvocation(request, started, 60_000).clientAddress).toBe('203.0.113.9')
    const forged = new Request('https://caretaker.example/', { headers: { 'x-forwarded-for': '198.51.100.1' } })
    expect(vercelInvocation(forged, started, 60_000).clientAddress).toBe('unknown')
  })

  it('hands on work after the answer where the runtime takes it, and does without elsewhere', () => {
    const kept: Promise<unknown>[] = []
    const work = Promise.resolve()
    const request = new Request('https://caretaker.example/')
    vercelInvocation(request, started, 60_000).waitUntil(work)
    Reflect.set(globalThis, vercelContext, { get: () => ({ waitUntil: (one: Promise<unknown>) => void kept.push(one) }) })
    vercelInvocation(request, started, 60_000).waitUntil(work)
    expect(kept).toEqual([work])
  })

  it('ends two seconds before the host does', () => {
    expect(vercelInvocation(new Request('https://caretaker.example/'), started, 300_000).deadline).toEqual(new Date('2026-11-21T02:04:58Z'))
  })
})
