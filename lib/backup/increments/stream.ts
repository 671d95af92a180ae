import { randomBytes } from 'node:crypto'
import * as z from 'zod/mini'
import { CaretakerError } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { readSignedDocument, signDocument } from '../signed-document.ts'
import type { Signer } from '../signing/index.ts'

/*
 * A stream is what one replication slot has given, in segments numbered from 1, under `increments/ID/`. Its document is
 * written before its slot is made: a slot that nobody knows would keep the log until the disk is full.
 */

const streamSchema = z.strictObject({
  format: z.literal('caretaker-increments/1'),
  id: z.string().check(z.regex(/^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$/)),
  slot: z.string(),
  app: z.string(),
  database: z.string(),
  /** Of the database (see instance.ts); absent in what older releases wrote. */
  instance: z.optional(z.nullable(z.string())),
  /** True where the policy asked for it, false where a person did: when the policy has no increments any more, the slot goes. */
  scheduled: z.optional(z.boolean()),
  createdAt: z.iso.datetime(),
  /** Fingerprint of the schema when the slot was made. */
  schema: z.string(),
})

export type Stream = z.output<typeof streamSchema>

export const incrementsPrefix = 'increments/'

export function streamFolder(id: string): string {
  return `${incrementsPrefix}${id}/`
}

/** Slots are named for the stream they feed; nothing else is called so. */
export const slotPrefix = 'caretaker_'

export function newStream(about: Pick<Stream, 'app' | 'database' | 'instance' | 'scheduled' | 'schema'> & { now: Date }): Stream {
  const id = `${about.now.toISOString().replace(/[-:]|\.\d+/g, '')}-${randomBytes(4).toString('hex')}`
  const slot = `${slotPrefix}${id.toLowerCase().replaceAll('-', '_')}`
  const { now, ...rest } = about
  return { format: 'caretaker-increments/1', id, slot, ...rest, createdAt: now.toISOString() }
}

export async function writeStream(store: ObjectStore, stream: Stream, signer: Signer | null, signal: AbortSignal): Promise<void> {
  await store.put(`${streamFolder(stream.id)}stream.json`, signDocument(stream, signer), {
    contentType: 'application/json',
    ifAbsent: true,
    signal,
  })
}

/**
 * A stream, and the public key it was signed with; null where there is none. Whether to believe that key is for the caller to ask.
 * @throws {CaretakerError} `backup_corrupt`
 */
export async function readStream(store: ObjectStore, id: string): Promise<{ stream: Stream; signer: string | null } | null> {
  const key = `${streamFolder(id)}stream.json`
  const found = await readSignedDocument(store, key, streamSchema)
  if (found === null) return null
  if (found.content.id !== id) throw new CaretakerError('backup_corrupt', `${key} is that of another stream, ${found.content.id}.`)
  return { stream: found.content, signer: found.signer }
}

/** What is stored of each stream, oldest stream first. */
export interface StoredStream {
  id: string
  /** Numbers of the segments whose manifest is there, in order. */
  segments: number[]
  /** Every key, with when it was written. */
  objects: { key: string; modifiedAt: Date }[]
}

export async function listStreams(store: ObjectStore): Promise<StoredStream[]> {
  const streams = new Map<string, StoredStream>()
  for await (const object of store.list(incrementsPrefix)) {
    const match = /^increments\/([^/]+)\/(?:(\d{6,})\.json$)?/.exec(object.key)
    if (match?.[1] === undefined) continue
    const stream = streams.get(match[1]) ?? { id: match[1], segments: [], objects: [] }
    streams.set(match[1], stream)
    stream.objects.push({ key: object.key, modifiedAt: object.modifiedAt })
    if (match[2] !== undefined) stream.segments.push(Number(match[2]))
  }
  for (const stream of streams.values()) stream.segments.sort((a, b) => a - b)
  return [...streams.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
}
