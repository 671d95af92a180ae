import type { Policy } from '../../config/index.ts'
import { settleMs } from '../incidents/apply-alerts.ts'
import { remindEveryMs } from '../incidents/notify.ts'

/** An alert of the past, as far as its incident writes into it. */
interface PastAlert {
  told: Date | null
  page: 'opened' | 'reopened' | 'joined' | null
  reminders: number
}

/**
 * The incident that a rule's alerts would have been, look by look: opened, joined, ended when all of them were over, brought back by one that
 * came within a reminder period, and then only ended after it had stayed clear for a while. As if nobody had acknowledged or ended it.
 */
export class PastIncident {
  readonly #config: { readonly config: Policy }
  readonly #remindMs: number
  readonly #firing = new Set<PastAlert>()
  #state: 'none' | 'open' | 'ended' = 'none'
  #reopened = 0
  /** When it ends, if its alerts stay clear; null while one fires. */
  #endsAt: number | null = null
  #endedAt = 0
  #nextReminderAt = 0

  constructor(ctx: { readonly config: Policy }) {
    this.#config = ctx
    this.#remindMs = remindEveryMs(ctx.config)
  }

  /** One look: what is to be told now, what is over, and what is silenced: where that is all of it, reminders are put off. */
  look(at: Date, news: readonly PastAlert[], over: readonly PastAlert[], quiet: ReadonlySet<PastAlert>): void {
    const now = at.getTime()
    for (const [index, alert] of news.entries()) {
      alert.told = at
      alert.page = index === 0 ? this.#enter(now) : 'joined'
      this.#firing.add(alert)
    }
    const cleared = over.filter((alert) => this.#firing.delete(alert)).length > 0
    if (cleared && this.#firing.size === 0) {
      const holdMs = settleMs(this.#config, { reopened: this.#reopened })
      if (holdMs === 0) this.#end(now)
      else this.#endsAt = now + holdMs
    }
    if (this.#state !== 'open') return
    if (this.#endsAt !== null) {
      if (this.#endsAt <= now) this.#end(now)
      return
    }
    const [first] = this.#firing
    if (first === undefined || now < this.#nextReminderAt || [...this.#firing].every((alert) => quiet.has(alert))) return
    first.reminders++
    this.#nextReminderAt = now + this.#remindMs
  }

  /** What somebody hears of an alert that is to be told. */
  #enter(now: number): 'opened' | 'reopened' | 'joined' {
    if (this.#state === 'open') {
      if (this.#endsAt !== null) this.#reopened++
      this.#endsAt = null
      return 'joined'
    }
    const back = this.#state === 'ended' && now - this.#endedAt < this.#remindMs
    this.#reopened = back ? this.#reopened + 1 : 0
    this.#state = 'open'
    this.#nextReminderAt = now + this.#remindMs
    return back ? 'reopened' : 'opened'
  }

  #end(now: number): void {
    this.#state = 'ended'
    this.#endsAt = null
    this.#endedAt = now
  }
}
