import { totalmem } from 'node:os'
import { byteSize } from '../../config/index.ts'
import { type Checker, healthy, unhealthy } from '../checker.ts'

const share = 0.9

/**
 * This instance holds no more memory than `atMost`, else nine tenths of what it may have: what the function was given, the
 * container's limit, or the machine's.
 */
export const memory: Checker = (ctx, check) => {
  const { rss } = process.memoryUsage()
  const limit = check.atMost === undefined ? availableBytes(ctx.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE) * share : byteSize(check.atMost)
  const measures = { rssBytes: rss, limitBytes: Math.round(limit) }
  return Promise.resolve(rss > limit ? unhealthy('memory_high', measures) : healthy(measures))
}

function availableBytes(functionMb: string | undefined): number {
  const given = Number(functionMb) * 1_048_576
  const container = process.constrainedMemory()
  return Math.min(...[given, container, totalmem()].filter((bytes) => bytes > 0))
}
