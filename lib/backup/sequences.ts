import { qualified } from '../platform/db.ts'
import type { Manifest } from './manifest.ts'

/** A text as an SQL literal, under standard_conforming_strings. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** One setval a sequence: where it stood and whether that value was given out. */
export function sequencesSql(sequences: Manifest['sequences']): string {
  const lines = sequences.map(
    (sequence) =>
      `select pg_catalog.setval(${literal(qualified(sequence.schema, sequence.name))}, ${sequence.lastValue}, ${sequence.isCalled});`,
  )
  return `set standard_conforming_strings = 'on';\n${lines.join('\n')}\n`
}
