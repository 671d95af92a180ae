import { canonicalName, nearest } from '../../config/index.ts'
import type { CheckerKind } from '../checker.ts'
import { activity } from './activity.ts'
import { backup } from './backup.ts'
import { certificate } from './certificate.ts'
import { database } from './database.ts'
import { dns } from './dns.ts'
import { drill } from './drill.ts'
import { gdpr } from './gdpr.ts'
import { google } from './google.ts'
import { hume } from './hume.ts'
import { jobs } from './jobs.ts'
import { make } from './make.ts'
import { memberstack } from './memberstack.ts'
import { memory } from './memory.ts'
import { migrations } from './migrations.ts'
import { n8n } from './n8n.ts'
import { objectStore } from './object-store.ts'
import { openai } from './openai.ts'
import { pooler } from './pooler.ts'
import { posthog } from './posthog.ts'
import { redis } from './redis.ts'
import { rls } from './rls.ts'
import { sendgrid } from './sendgrid.ts'
import { sentry } from './sentry.ts'
import { stackAuth } from './stack-auth.ts'
import { stripe } from './stripe.ts'
import { supabase, supabaseAuth, supabaseRealtime, supabaseRest, supabaseStorage } from './supabase.ts'
import { twilio } from './twilio.ts'
import { url } from './url.ts'
import { webflow } from './webflow.ts'
import { webhooks } from './webhooks.ts'

const thirdParty = { critical: false, timeoutMs: 3_000 }
/** A look into Caretaker's own tables. */
const own = { critical: false, timeoutMs: 3_000 }

/** Every kind of check. Adding one is a file in this folder and a line here. */
export const checkerKinds: ReadonlyMap<string, CheckerKind> = new Map<string, CheckerKind>([
  ['database', { check: database, critical: true, timeoutMs: 3_000 }],
  ['supabase', { check: supabase, ...thirdParty }],
  ['supabase-auth', { check: supabaseAuth, ...thirdParty }],
  ['supabase-storage', { check: supabaseStorage, ...thirdParty }],
  ['supabase-rest', { check: supabaseRest, ...thirdParty }],
  ['supabase-realtime', { check: supabaseRealtime, ...thirdParty }],
  ['object-store', { check: objectStore, critical: false, timeoutMs: 5_000 }],
  ['stripe', { check: stripe, ...thirdParty }],
  ['url', { check: url, ...thirdParty }],
  ['activity', { check: activity, ...own }],
  ['backup', { check: backup, ...own }],
  ['drill', { check: drill, ...own }],
  ['jobs', { check: jobs, ...own }],
  ['webhooks', { check: webhooks, ...own }],
  ['gdpr', { check: gdpr, ...own }],
  ['migrations', { check: migrations, ...own }],
  ['memory', { check: memory, ...own }],
  // Where there is one, requests go through it.
  ['pooler', { check: pooler, critical: true, timeoutMs: 3_000 }],
  ['redis', { check: redis, ...thirdParty }],
  ['openai', { check: openai, ...thirdParty }],
  ['hume', { check: hume, ...thirdParty }],
  ['memberstack', { check: memberstack, ...thirdParty }],
  ['posthog', { check: posthog, ...thirdParty }],
  ['twilio', { check: twilio, ...thirdParty }],
  ['sendgrid', { check: sendgrid, ...thirdParty }],
  ['google', { check: google, ...thirdParty }],
  ['sentry', { check: sentry, ...thirdParty }],
  ['make', { check: make, ...thirdParty }],
  ['n8n', { check: n8n, ...thirdParty }],
  ['stack-auth', { check: stackAuth, ...thirdParty }],
  ['webflow', { check: webflow, ...thirdParty }],
  ['certificate', { check: certificate, critical: false, timeoutMs: 5_000 }],
  ['dns', { check: dns, ...thirdParty }],
  ['rls', { check: rls, critical: false, timeoutMs: 3_000 }],
])

/** The kind of that name; or the nearest name there is. */
export function findKind(name: string): { kind: CheckerKind } | { near: string | undefined } {
  const kind = checkerKinds.get(canonicalName(name))
  return kind === undefined ? { near: nearest(canonicalName(name), checkerKinds.keys()) } : { kind }
}
