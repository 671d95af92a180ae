/** What a firing or cleared alert means for incidents. */
export interface AlertChange {
  /** The row of `caretaker.alerts`; the same for as long as the condition is known. */
  alertId: string
  rule: string
  /** The root: what is broken, not what suffers from it. */
  component: string
  severity: string
  /** `explained`: it fires, and opens nothing because what it comes from is known: `root`, whose incident is as severe and told to as many. */
  change: 'firing' | 'resolved' | 'explained'
  /** Of an explained one: the component whose incident speaks for it. */
  root?: string
  /** Since when the condition holds; of a resolved one, since when it is over. */
  since: Date
  /** One sentence, without secrets and personal data. */
  summary: string
  /** A code: "timeout", "certificate_expires". */
  cause?: string
  value?: number
  runbook?: string
  /** Components that suffer from it. A firing alert is told again when they change. */
  affected: string[]
  /** Channels of the rule, instead of the severity's. */
  notify?: string[]
  /** It is one of many that began together: they are one incident. */
  storm?: true
}

export const notificationKinds = [
  'opened',
  'reminder',
  'escalation',
  'reopened',
  'raised',
  'acknowledged',
  'resolved',
  'update',
  'watching',
] as const
export type NotificationKind = (typeof notificationKinds)[number]

/** What a message is made of. It is kept: no secrets, no personal data. */
export interface NotificationPayload {
  /** The incident's number; 0 where there is none. */
  number: number
  /** "database is down". */
  title: string
  component: string
  /** The alerts' own sentences, one a line. */
  summary?: string
  cause?: string
  /** Since when it is so, ISO 8601. */
  since: string
  /** When it ended, ISO 8601. */
  until?: string
  /** It ends here because it is part of the incident of this number, which goes on. */
  partOf?: number
  /** Numbers of the incidents that this one takes over: consequences that were seen before their cause. */
  takesOver?: number[]
  affected: string[]
  runbook?: string
  /** By when somebody is expected to answer, ISO 8601. */
  respondBy?: string
  /** What an operator wrote for others to read. */
  text?: string
  /** Who did it: a role or an id, never a name. */
  by?: string
}
