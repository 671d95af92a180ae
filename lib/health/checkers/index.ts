import { nearest } from '../../config/index.ts'
import type { CheckerKind } from '../checker.ts'
import { database } from './database.ts'
import { gdpr } from './gdpr.ts'
import { objectStore } from './object-store.ts'
import { rls } from './rls.ts'
import { stripe } from './stripe.ts'
import { supabase, supabaseAuth, supabaseRest, supabaseStorage } from './supabase.ts'
import { url } from './url.ts'

const thirdParty = { critical: false, timeoutMs: 3_000 }

/** Every kind of check. Adding one is a file in this folder and a line here. */
export const checkerKinds: ReadonlyMap<string, CheckerKind> = new Map<string, CheckerKind>([
  ['database', { check: database, critical: true, timeoutMs: 3_000 }],
  ['supabase', { check: supabase, ...thirdParty }],
  ['supabase-auth', { check: supabaseAuth, ...thirdParty }],
  ['supabase-storage', { check: supabaseStorage, ...thirdParty }],
  ['supabase-rest', { check: supabaseRest, ...thirdParty }],
  ['object-store', { check: objectStore, critical: false, timeoutMs: 5_000 }],
  ['stripe', { check: stripe, ...thirdParty }],
  ['url', { check: url, ...thirdParty }],
  ['gdpr', { check: gdpr, critical: false, timeoutMs: 3_000 }],
  ['rls', { check: rls, critical: false, timeoutMs: 3_000 }],
])

/** `object_store` and `object-store` are one name. */
export function canonicalName(name: string): string {
  return name.toLowerCase().replaceAll('_', '-')
}

/** The kind of that name; or the nearest name there is. */
export function findKind(name: string): { kind: CheckerKind } | { near: string | undefined } {
  const kind = checkerKinds.get(canonicalName(name))
  return kind === undefined ? { near: nearest(canonicalName(name), checkerKinds.keys()) } : { kind }
}
