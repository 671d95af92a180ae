import { CaretakerError } from '../platform/errors.ts'
import type { WebhookRequest } from './source.ts'

/** @throws {CaretakerError} `unsupported_media_type` or `payload_too_large`, saying what was found and what is expected */
export function checkForm(request: WebhookRequest, expected: { mediaTypes: readonly string[]; bodyLimitBytes?: number }): void {
  const encoding = request.headers.get('content-encoding')
  if (encoding !== null && encoding.toLowerCase() !== 'identity')
    throw new CaretakerError(
      'unsupported_media_type',
      `The body is encoded as "${printable(encoding)}"; expected it as it was signed, without content-encoding.`,
    )
  const type = request.headers.get('content-type')
  if (type !== null) {
    const [mediaType = '', ...parameters] = type.split(';').map((part) => part.trim().toLowerCase())
    if (!expected.mediaTypes.includes(mediaType))
      throw new CaretakerError(
        'unsupported_media_type',
        `The body is "${printable(mediaType)}"; expected ${expected.mediaTypes.join(' or ')}.`,
      )
    const charset = parameters.find((parameter) => parameter.startsWith('charset='))?.slice('charset='.length)
    if (charset !== undefined && !/^"?(utf-?8|us-ascii)"?$/.test(charset))
      throw new CaretakerError('unsupported_media_type', `The body is in the character set "${printable(charset)}"; expected UTF-8.`)
  }
  const limit = expected.bodyLimitBytes
  if (limit !== undefined && request.body.byteLength > limit)
    throw new CaretakerError('payload_too_large', `The body has ${request.body.byteLength} bytes; accepted are ${limit}.`)
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 60)
}
