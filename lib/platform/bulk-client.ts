import { type OnReadOpts, Socket } from 'node:net'
import pg from 'pg'

/** What one read takes at most. */
const readBytes = 256 * 1024

/**
 * A socket that reads into one buffer that it keeps, where Node otherwise makes a new one for every read: for each gigabyte those cost
 * as much as two seconds of garbage collection and tens of megabytes of memory (measured).
 */
export interface BulkSocket extends Socket {
  /** While it is set, listeners to 'data' get the buffer itself, and have to be done with it when they return. */
  lends: boolean
  readonly readBytes: number
}

export function isBulkSocket(socket: Socket): socket is BulkSocket {
  return 'lends' in socket
}

function bulkSocket(): BulkSocket {
  const buffer = Buffer.allocUnsafeSlow(readBytes)
  const onread: OnReadOpts = {
    buffer,
    callback(bytes) {
      const read = buffer.subarray(0, bytes)
      socket.emit('data', socket.lends ? read : Buffer.from(read))
      return true
    },
  }
  const socket: BulkSocket = Object.assign(new Socket({ onread }), { lends: false, readBytes })
  return socket
}

/**
 * A client of `pg` for much data: COPY. Over TLS, which Node reads in buffers of its own, it is as any other.
 */
export class BulkClient extends pg.Client {
  constructor(config: pg.ClientConfig = {}) {
    super(config.ssl === undefined || config.ssl === false ? { ...config, stream: bulkSocket } : config)
  }
}
