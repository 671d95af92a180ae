import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { startS3Server } from '../../support/s3-server.ts'

const mib = 1_048_576

it('needs no more memory for a big object than for a small one', async () => {
  const server = await startS3Server()
  const size = 768 * mib
  const client = spawn(
    process.execPath,
    [fileURLToPath(new URL('../../support/put-large.child.ts', import.meta.url)), `s3://${server.bucket}/p`, String(size)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        S3_ENDPOINT: server.endpoint,
        S3_REGION: server.region,
        S3_ACCESS_KEY_ID: server.accessKeyId,
        S3_SECRET_ACCESS_KEY: server.secretAccessKey,
      },
    },
  )
  const { bytes, read, peakRssBytes } = JSON.parse(await text(client.stdout)) as { bytes: number; read: number; peakRssBytes: number }
  await server.close()
  expect({ bytes, read }).toEqual({ bytes: size, read: size })
  // Measured: 130 to 200 MiB, of which Node itself is 80; how much garbage waits is the machine's choice. Everything kept would be a gigabyte.
  expect(peakRssBytes / mib).toBeLessThan(448)
})
