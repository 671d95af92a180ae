import type { Readable } from 'node:stream'

/** What a store knows of one object. */
export interface ObjectInfo {
  key: string
  bytes: number
  modifiedAt: Date
}

export interface PutOptions {
  /** Fail with `conflict` when the key exists (conditional create). */
  ifAbsent?: boolean
  contentType?: string
  /** About how many bytes will come, where that is known: stores that take big objects in parts choose their size by it. */
  expectedBytes?: number
  signal?: AbortSignal
}

/**
 * A place for named, immutable byte sequences. Keys are relative paths of `[A-Za-z0-9._/=-]` segments, never `..`.
 * `null` means absent and only reads return it; a write that did not store every byte throws `object_store_failed`
 * and leaves nothing visible under the key (an error of the source passes as it is). Implementations are in
 * `lib/drivers/objects/`, one conformance suite (`tests/conformance/objects.ts`) holds them.
 */
export interface ObjectStore {
  /** For messages: never holds credentials. */
  readonly url: string
  /** Stores the whole stream, then resolves with the size read back from the store. */
  put(key: string, body: Readable | Uint8Array, options?: PutOptions): Promise<ObjectInfo>
  /** The object as a stream, or null. `range` is inclusive of start, exclusive of end. */
  get(key: string, options?: { range?: { start: number; end: number }; signal?: AbortSignal }): Promise<Readable | null>
  head(key: string): Promise<ObjectInfo | null>
  /**
   * An address at which anyone can fetch the object until `seconds` are over, saved under `fileName`; null where the store
   * has no addresses (a folder) or no such object.
   */
  downloadUrl(key: string, options: { seconds: number; fileName: string }): Promise<string | null>
  /** In key order. */
  list(prefix: string): AsyncIterable<ObjectInfo>
  /** Deleting what is absent is not an error. */
  delete(key: string): Promise<void>
}
