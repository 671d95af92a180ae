import { randomUUID } from 'node:crypto'
import type { Queryable, Row, Transaction } from '../../lib/platform/db.ts'
import { Refusal } from './reply.ts'

/** A user as Auth shows it. */
export interface User {
  id: string
  email: string | null
  role: string
  app_metadata: Record<string, unknown>
  user_metadata: Record<string, unknown>
  is_anonymous: boolean
  banned_until: Date | null
  [field: string]: unknown
}

/** What sign-up and the admin calls may set. */
export interface UserFields {
  id?: unknown
  email?: unknown
  phone?: unknown
  password?: unknown
  email_confirm?: unknown
  user_metadata?: unknown
  app_metadata?: unknown
  role?: unknown
  ban_duration?: unknown
}

export function refuse(status: number, errorCode: string, message: string): Refusal {
  return new Refusal(status, { code: status, error_code: errorCode, msg: message })
}

const shown = `
  select u.id, u.aud, u.role, u.email, u.phone, u.email_confirmed_at, u.phone_confirmed_at, u.confirmed_at, u.last_sign_in_at,
    coalesce(u.raw_app_meta_data, '{}') as app_metadata, coalesce(u.raw_user_meta_data, '{}') as user_metadata,
    u.created_at, u.updated_at, u.is_anonymous, u.banned_until, u.deleted_at,
    coalesce((select jsonb_agg(jsonb_build_object('identity_id', i.id, 'id', i.provider_id, 'user_id', i.user_id, 'identity_data', i.identity_data,
      'provider', i.provider, 'last_sign_in_at', i.last_sign_in_at, 'created_at', i.created_at, 'updated_at', i.updated_at, 'email', i.email))
      from auth.identities i where i.user_id = u.id), '[]') as identities
  from auth.users u`

export async function findUser(db: Queryable, id: string): Promise<User | null> {
  const [user] = await db.query<User & Row>(`${shown} where u.id = $1::uuid`, [id])
  return user ?? null
}

export async function listUsers(db: Queryable, page: number, perPage: number): Promise<{ users: User[]; total: number }> {
  const users = await db.query<User & Row>(`${shown} order by u.created_at desc, u.id limit $1::int offset $2::int`, [
    perPage,
    (page - 1) * perPage,
  ])
  const [count] = await db.query<{ n: number }>('select count(*)::int as n from auth.users')
  return { users, total: count?.n ?? 0 }
}

export async function createUser(tx: Transaction, fields: UserFields): Promise<User> {
  const email = address(fields.email)
  if (email === null && typeof fields.phone !== 'string')
    throw refuse(400, 'validation_failed', 'Cannot create a user without either an email or phone')
  if (email !== null && (await tx.query('select 1 from auth.users where lower(email) = $1', [email])).length > 0)
    throw refuse(422, 'email_exists', 'A user with this email address has already been registered')
  const id = typeof fields.id === 'string' ? fields.id : randomUUID()
  const provider = email === null ? 'phone' : 'email'
  await tx.execute(
    `insert into auth.users (instance_id, id, aud, role, email, phone, encrypted_password, email_confirmed_at, raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
     values ('00000000-0000-0000-0000-000000000000', $1::uuid, 'authenticated', 'authenticated', $2, $3, '', case when $4::bool then now() end, $5::jsonb, '{}', now(), now())`,
    [
      id,
      email,
      typeof fields.phone === 'string' ? fields.phone : null,
      email !== null && fields.email_confirm === true,
      JSON.stringify({ provider, providers: [provider] }),
    ],
  )
  await tx.execute(
    `insert into auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at)
     values ($1::uuid::text, $1::uuid, jsonb_build_object('sub', $1::text, 'email', $2::text), $3, now(), now())`,
    [id, email, provider],
  )
  const { id: _id, email: _email, phone: _phone, email_confirm: _confirm, ...rest } = fields
  return updateUser(tx, id, rest)
}

/** Metadata is merged, as Auth does it; a key set to null is removed. */
export async function updateUser(tx: Transaction, id: string, fields: UserFields): Promise<User> {
  const email = fields.email === undefined ? null : address(fields.email)
  const password = fields.password === undefined || fields.password === null ? null : passwordOf(fields.password)
  const banned = typeof fields.ban_duration === 'string' ? fields.ban_duration : null
  const updated = await tx.execute(
    `update auth.users set
       email = coalesce($2, email),
       encrypted_password = case when $3::text is null then encrypted_password else extensions.crypt($3, extensions.gen_salt('bf', 6)) end,
       email_confirmed_at = case when $4::bool then coalesce(email_confirmed_at, now()) else email_confirmed_at end,
       raw_user_meta_data = jsonb_strip_nulls(coalesce(raw_user_meta_data, '{}') || $5::jsonb),
       raw_app_meta_data = jsonb_strip_nulls(coalesce(raw_app_meta_data, '{}') || $6::jsonb),
       role = coalesce($7, role),
       phone = coalesce($8, phone),
       banned_until = case when $9::text is null then banned_until when $9 = 'none' then null else now() + $9::interval end,
       updated_at = now()
     where id = $1::uuid`,
    [
      id,
      email,
      password,
      fields.email_confirm === true,
      metadata(fields.user_metadata),
      metadata(fields.app_metadata),
      text(fields.role),
      text(fields.phone),
      banned,
    ],
  )
  if (updated === 0) throw refuse(404, 'user_not_found', 'User not found')
  if (email !== null)
    await tx.execute(
      `update auth.identities set identity_data = identity_data || jsonb_build_object('email', $2::text), updated_at = now() where user_id = $1::uuid and provider = 'email'`,
      [id, email],
    )
  return (await findUser(tx, id)) as User
}

/**
 * Deletes the user and what follows by foreign keys. A user who still owns stored files cannot be deleted, and neither
 * can one whom a row without ON DELETE points at; Supabase says no more than this in either case.
 */
export async function deleteUser(tx: Transaction, id: string): Promise<void> {
  const opaque = refuse(500, 'unexpected_failure', 'Database error deleting user')
  const owned = await tx.query('select 1 from storage.objects where owner_id = $1 or owner = $1::uuid limit 1', [id])
  if (owned.length > 0) throw opaque
  let deleted: number
  try {
    deleted = await tx.execute('delete from auth.users where id = $1::uuid', [id])
  } catch {
    throw opaque
  }
  if (deleted === 0) throw refuse(404, 'user_not_found', 'User not found')
}

function address(value: unknown): string | null {
  if (value === undefined || value === null || value === '') return null
  if (typeof value !== 'string' || !/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(value))
    throw refuse(400, 'validation_failed', 'Unable to validate email address: invalid format')
  return value.toLowerCase()
}

function passwordOf(value: unknown): string {
  if (typeof value !== 'string' || value.length < 6) throw refuse(422, 'weak_password', 'Password should be at least 6 characters.')
  return value
}

function metadata(value: unknown): string {
  return JSON.stringify(typeof value === 'object' && value !== null ? value : {})
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}
