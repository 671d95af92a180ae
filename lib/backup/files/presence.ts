import { createHash } from 'node:crypto'
import type { SupabaseClient } from '@supabase/supabase-js'
import { CaretakerError } from '../../platform/errors.ts'
import type { IndexedFile } from './index-lines.ts'
import { download, fileInfo, isAbsent, saidNo } from './storage-api.ts'

export type Presence = 'absent' | 'same' | 'different'

/**
 * Whether Storage has a file, and with the content of the backup. Its row proves nothing: a restored database has rows of
 * files that no Storage has. Where the ETag does not decide, the content is read.
 */
export async function presenceOf(
  supabase: SupabaseClient,
  file: Pick<IndexedFile, 'bucket' | 'name' | 'bytes' | 'sha256' | 'etag'>,
  signal: AbortSignal,
): Promise<Presence> {
  const row = await fileInfo(supabase, file)
  if (row === null) return 'absent'
  const answer = await download(supabase, file, row.version ?? '', signal)
  if ('refused' in answer) {
    if (isAbsent(answer.refused)) return 'absent'
    throw new CaretakerError('upstream_failed', `it could not be looked up: ${saidNo(answer.refused)}`)
  }
  const { body } = answer
  try {
    if (row.size !== null && row.size !== file.bytes) return 'different'
    if (row.etag !== null && row.etag === file.etag) return 'same'
    const hash = createHash('sha256')
    for await (const chunk of body) hash.update(chunk as Buffer)
    return hash.digest('hex') === file.sha256 ? 'same' : 'different'
  } finally {
    body.destroy()
  }
}
