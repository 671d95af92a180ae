import { connect, type Socket } from 'node:net'
import type pg from 'pg'

const cancelRequestCode = 80_877_102
const longestMs = 1_000

/** What `pg` knows of its session, beyond its types. */
interface Wire {
  host: string
  port: number
  processID: number | null
  secretKey: number | null
  connection: { stream: Socket }
}

/**
 * Ends a session at once, whatever it does. A server process that waits for a lock, or computes, does not look at its
 * connection: so the statement is canceled first, as psql's Ctrl-C does, and then the connection is closed.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
 */
export async function endSession(client: pg.ClientBase): Promise<void> {
  const wire = client as unknown as Wire
  await cancelStatement(wire)
  wire.connection.stream.destroy()
}

/** Never fails: a server that cannot be asked any more cancels nothing, and ends the session when it notices. */
function cancelStatement({ host, port, processID, secretKey }: Wire): Promise<void> {
  if (processID === null || secretKey === null) return Promise.resolve()
  const request = Buffer.alloc(16)
  for (const [index, value] of [16, cancelRequestCode, processID, secretKey].entries()) request.writeInt32BE(value | 0, index * 4)
  return new Promise((done) => {
    const socket = host.startsWith('/') ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host)
    socket.setTimeout(longestMs, () => socket.destroy())
    socket.on('connect', () => socket.write(request))
    // The server closes the connection when it has passed the request on.
    socket.on('close', () => done())
    socket.on('error', () => undefined)
    socket.resume()
  })
}
