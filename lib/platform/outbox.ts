import type { Transaction } from './db.ts'

/** Records, inside the caller's transaction, that something happened which somebody may want to hear of. Topic: `domain.event`. */
export async function emitEvent(tx: Transaction, topic: string, payload: Record<string, unknown>): Promise<void> {
  await tx.execute('insert into caretaker.outbox (topic, payload) values ($1, $2::jsonb)', [topic, JSON.stringify(payload)])
}
