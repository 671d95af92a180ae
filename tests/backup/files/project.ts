import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SupabaseClient } from '@supabase/supabase-js'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { systemClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { lazySupabase } from '../../../lib/platform/supabase.ts'
import { installSupabase } from '../../../local/example.ts'
import { serve } from '../../../local/server.ts'
import { createSigningKey, createTokens } from '../../../local/supabase/keys.ts'
import { createSupabase } from '../../../local/supabase/server.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'

type UploadOptions = NonNullable<Parameters<ReturnType<SupabaseClient['storage']['from']>['upload']>[2]>

export interface Project {
  database: TestDatabase
  url: string
  key: string
  supabase: SupabaseClient
  /** Every request to Storage, as "GET /storage/v1/object/…". */
  requests: string[]
  /** Answers a request instead of Storage, when it returns something. */
  intercept: ((request: Request) => Response | undefined | Promise<Response | undefined>) | undefined
  drop(): Promise<void>
}

/** A Supabase project of its own: database, Storage over a folder, and the real client. */
export async function createProject(): Promise<Project> {
  const database = await createTestDatabase({ template: 'template0' })
  await installSupabase(database.db)
  const filesDirectory = await mkdtemp(join(tmpdir(), 'caretaker-storage-'))
  const tokens = createTokens(createSigningKey(), systemClock)
  let answer: (request: Request) => Promise<Response> = () => Promise.reject(new Error('not ready'))
  const server = await serve({ port: 0, bodyLimit: () => 64 * 1_048_576, handle: (request) => answer(request) })
  const supabase = createSupabase({ db: database.db, tokens, clock: systemClock, url: server.url, filesDirectory })
  const key = tokens.sign({ role: 'service_role' }, 3_600)
  const project: Project = {
    database,
    url: server.url,
    key,
    supabase: await lazySupabase(readEnv({ SUPABASE_URL: server.url, SUPABASE_SERVICE_ROLE_KEY: key }), globalThis.fetch)(),
    requests: [],
    intercept: undefined,
    async drop() {
      await server.stop()
      await database.drop()
      await rm(filesDirectory, { recursive: true, force: true })
    },
  }
  answer = async (request) => {
    project.requests.push(`${request.method} ${new URL(request.url).pathname}`)
    return (await project.intercept?.(request)) ?? supabase(request)
  }
  return project
}

/** Uploads through the real client, over what is there. */
export async function putFile(project: Project, bucket: string, name: string, bytes: Uint8Array, options: UploadOptions): Promise<void> {
  const path = name.split('/').map(encodeURIComponent).join('/')
  const { error } = await project.supabase.storage.from(bucket).upload(path, bytes, { upsert: true, ...options })
  if (error !== null) throw error
}

export const encryptionKey = '5a'.repeat(32)

/** A context over the project's database and Storage, and the store in `folder`. */
export function projectContext(
  project: Project,
  folder: string,
  backup: PolicyInput['backup'],
  environment: Record<string, string> = { ENCRYPTION_KEY: encryptionKey },
): Context {
  const env = readEnv({ ...environment, LOG_LEVEL: 'debug', SUPABASE_URL: project.url, SUPABASE_SERVICE_ROLE_KEY: project.key })
  return testContext(project.database.db, {
    env,
    config: defineConfig({ app: { name: 'Files' }, backup }),
    supabase: lazySupabase(env, globalThis.fetch),
    objects: () => openObjectStore(`file://${folder}`, env),
  })
}
