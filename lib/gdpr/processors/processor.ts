import type { Context } from '../../platform/context.ts'
import type { Env } from '../../platform/env.ts'

/** What a processor may know the person by. */
export interface Person {
  /** Of the row in the subject's table. */
  id: string
  email: string | null
  /** What the columns that the policy names in `ids` hold: ids at this processor, or telephone numbers. */
  ids: string[]
}

/** What became of the person's data there. No personal data: it is part of the receipt. */
export interface ProcessorErasure {
  /** How many of what were erased, or told to be. Empty: the person was not known there. */
  erased: Record<string, number>
  /** What stays there, and why, in sentences. */
  kept?: string[]
  /** It was taken on and will be done there later: until when. */
  pending?: string
}

/** One third party. Both verbs can be repeated: what is gone already is no error. */
export interface Processor {
  /** Without these variables it cannot be asked. */
  readonly needs: readonly (keyof Env)[]
  /** Every record it holds of the person, by kind. */
  export(ctx: Context, person: Person): AsyncIterable<{ kind: string; record: unknown }>
  erase(ctx: Context, person: Person): Promise<ProcessorErasure>
}
