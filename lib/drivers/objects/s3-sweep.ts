import { systemClock } from '../../platform/clock.ts'
import { callS3, element, elements, type S3Settings } from './s3-api.ts'

/** No invocation lives for a day: an upload that began before has lost its process. */
const abandonedAfterMs = 86_400_000

/**
 * Aborts the multipart uploads that killed processes left under `prefix`: they are invisible, and paid for. Best effort:
 * a key that may not list uploads leaves them to the bucket's lifecycle rule.
 * @returns how many were aborted
 */
export async function sweepUploads(settings: S3Settings, prefix: string): Promise<number> {
  const before = systemClock.now().getTime() - abandonedAfterMs
  const answer = await callS3(settings, { method: 'GET', query: { uploads: '', prefix } }).catch(() => null)
  if (answer?.status !== 200) return 0
  let aborted = 0
  // One page, a thousand uploads: what is left is taken by the next sweep.
  for (const upload of elements(answer.text, 'Upload')) {
    const name = element(upload, 'Key')
    const uploadId = element(upload, 'UploadId')
    const initiated = new Date(element(upload, 'Initiated') ?? Number.NaN).getTime()
    if (name === undefined || uploadId === undefined || !(initiated < before) || !name.startsWith(prefix)) continue
    const gone = await callS3(settings, { method: 'DELETE', name, query: { uploadId } }).catch(() => null)
    if (gone?.status === 204) aborted++
  }
  return aborted
}
