import type { SupabaseClient } from '@supabase/supabase-js'
import { CaretakerError } from '../../platform/errors.ts'

/** @throws {CaretakerError} `not_configured` when Auth does not know a user whose row is in the database */
export async function requireSameProject(supabase: SupabaseClient, id: string): Promise<void> {
  const { data, error } = await supabase.auth.admin.getUserById(id)
  if (error === null && data.user !== null) return
  if (error !== null && !isAbsent(error)) throw failed(error)
  throw new CaretakerError(
    'not_configured',
    'SUPABASE_URL answers for a project without this user, whose row is in the database: SUPABASE_URL and the database URL are of different projects. Nothing was changed.',
  )
}

/** Deletes the user with all sessions. A user who is gone already is no error. */
export async function deleteAuthUser(supabase: SupabaseClient, id: string): Promise<'deleted' | 'absent'> {
  const { error } = await supabase.auth.admin.deleteUser(id)
  if (error === null) return 'deleted'
  if (isAbsent(error)) return 'absent'
  throw failed(error)
}

function isAbsent(error: { status?: number | undefined; code?: string | undefined }): boolean {
  return error.status === 404 || error.code === 'user_not_found'
}

function failed(error: { status?: number | undefined; code?: string | undefined }): CaretakerError {
  return new CaretakerError(
    'upstream_failed',
    `Supabase Auth answered ${error.status ?? 'nothing'}${error.code === undefined ? '' : ` (${error.code})`}; ask again to go on where this stopped.`,
  )
}
