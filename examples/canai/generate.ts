import type { Database, Transaction } from '../../lib/platform/db.ts'

export interface GenerateOptions {
  /** About how many rows over all tables. Default 200,000. */
  rows?: number
  /** People in auth.users. Default 500. */
  people?: number
}

/** How many rows each table got. */
export type Generated = Record<string, number>

/** A file that a row of storage.objects stands for. */
export interface ExampleFile {
  bucket: string
  name: string
}

/** The bucket of spoken answers; the first folder of a file's name is its owner's id. */
export const voiceNotes = 'voice-notes'

/** Of each table's rows, the share of all of them. */
const shares = {
  session_logs: 0.36,
  initial_prompt_logs: 0.09,
  prompt_logs: 0.1,
  spark_logs: 0.13,
  comparisons: 0.03,
  spark_cache: 0.08,
  payment_logs: 0.02,
  feedback_logs: 0.03,
  usage_logs: 0.08,
  share_logs: 0.02,
  error_logs: 0.05,
  error_logs_archive: 0.01,
} as const

/**
 * Fills the app's tables. The same options give the same rows, ids and all, up to the time of day they are told from:
 * ages are fixed, so every retention rule finds work whenever this runs.
 * PostgreSQL makes the rows itself: 200,000 take about three seconds.
 */
export async function generate(db: Database, options: GenerateOptions = {}): Promise<Generated> {
  const rows = Math.max(200, Math.trunc(options.rows ?? 200_000))
  const people = Math.max(1, Math.trunc(options.people ?? 500))
  const counts: Generated = {}
  await db.transaction(async (tx) => {
    for (const helper of helpers) await tx.execute(helper)
    const size = (table: keyof typeof shares) => Math.max(10, Math.round(rows * shares[table]))
    counts['auth.users'] = await tx.execute(insertUsers, [people])
    counts['auth.identities'] = await tx.execute(insertIdentities)
    for (const [table, statement] of Object.entries(inserts) as [keyof typeof shares, string][]) {
      // Every statement is one `insert … select`, with the number of people as $1, its own size as $2 and, where it points
      // at another generated table, that one's size as $3.
      const parent = parents[table]
      counts[table] = await tx.execute(statement, [people, size(table), ...(parent === undefined ? [] : [size(parent)])])
    }
    counts.trust_indicators = await tx.execute(insertTrustIndicators)
    counts.performance_reports = await tx.execute(insertPerformanceReports)
    counts['storage.objects'] = await insertFiles(tx, people)
    await tx.execute('refresh materialized view daily_metrics')
  })
  await db.execute('analyze')
  return counts
}

/** A second of silence as a WAV file, and the name after it, so that no two files are equal. */
export function exampleFile(file: ExampleFile): Uint8Array<ArrayBuffer> {
  const samples = 8_000
  const tail = Buffer.from(file.name)
  const wav = Buffer.alloc(44 + samples + tail.length, 0x80)
  wav.write('RIFF', 0, 'latin1')
  wav.writeUInt32LE(36 + samples, 4)
  wav.write('WAVEfmt ', 8, 'latin1')
  wav.writeUInt32LE(16, 16)
  wav.writeUInt16LE(1, 20)
  wav.writeUInt16LE(1, 22)
  wav.writeUInt32LE(8_000, 24)
  wav.writeUInt32LE(8_000, 28)
  wav.writeUInt16LE(1, 32)
  wav.writeUInt16LE(8, 34)
  wav.write('data', 36, 'latin1')
  wav.writeUInt32LE(samples, 40)
  tail.copy(wav, 44 + samples)
  return new Uint8Array(wav)
}

const helpers = [
  // A whole number below `below`, the same for the same arguments on every machine: PostgreSQL's own hash, not random().
  `create or replace function pg_temp.pick(i bigint, salt int, below int) returns int language sql immutable as
   $$ select ((hashint8extended(i, salt) & 9223372036854775807) % below)::int $$`,
  `create or replace function pg_temp.key(kind text, i bigint) returns uuid language sql immutable as $$ select md5(kind || ':' || i)::uuid $$`,
  // A person's number, 1 to people; three in ten rows belong to a tenth of them.
  `create or replace function pg_temp.person(i bigint, salt int, people int) returns int language sql immutable as
   $$ select 1 + pg_temp.pick(i, salt, case when pg_temp.pick(i, salt + 1, 10) < 3 then greatest(1, people / 10) else people end) $$`,
  // How long ago a person signed up: 30 to 1,000 days; every seventh is one of the first.
  `create or replace function pg_temp.account_age(p int) returns interval language sql immutable as
   $$ select make_interval(days => case when p % 7 = 1 then 940 else 30 end + pg_temp.pick(p, 7, case when p % 7 = 1 then 60 else 970 end), secs => pg_temp.pick(p, 8, 86400)) $$`,
  // How long ago a row was written: since its person signed up. The first three are older than any rule asks for.
  `create or replace function pg_temp.age_of(i bigint, salt int, p int) returns interval language sql immutable as
   $$ select case when i <= 3 then make_interval(days => 750 + i::int, secs => pg_temp.pick(i, salt, 86400))
             else pg_temp.account_age(p) * (pg_temp.pick(i, salt, 1000000) / 1000000.0) end $$`,
  // Also used for the addresses in columns that no foreign key covers.
  `create or replace function pg_temp.email(p int) returns text language sql immutable as
   $$ select (array['ada','ben','chloe','dario','elif','femi','greta','hiro','ines','jonas','kofi','lena','mara','nils','oona','priya'])[1 + pg_temp.pick(p, 1, 16)]
      || '.' || (array['adler','baker','costa','diaz','evans','fischer','gomez','haddad','ito','jansen','keller','lopez','moreau','novak','okafor','park'])[1 + pg_temp.pick(p, 2, 16)]
      || p || '@example.com' $$`,
  `create or replace function pg_temp.card_name(p int) returns text language sql immutable as
   $$ select upper(replace(regexp_replace(split_part(pg_temp.email(p), '@', 1), '\\d+$', ''), '.', ' ')) $$`,
]

const insertUsers = `
  insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, last_sign_in_at,
    raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
  select '00000000-0000-0000-0000-000000000000', pg_temp.key('user', p), 'authenticated', 'authenticated', pg_temp.email(p), '',
    now() - pg_temp.account_age(p), now() - pg_temp.account_age(p) / 10,
    jsonb_build_object('provider', 'email', 'providers', jsonb_build_array('email'), 'stripe_customer_id', 'cus_' || left(md5('customer:' || p), 14)),
    jsonb_build_object('name', initcap(pg_temp.card_name(p))), now() - pg_temp.account_age(p), now() - pg_temp.account_age(p) / 10
  from generate_series(1, $1::int) p`

const insertIdentities = `
  insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at, id)
  select id::text, id, jsonb_build_object('sub', id, 'email', email, 'email_verified', true), 'email', last_sign_in_at, created_at, created_at,
    md5('identity:' || id)::uuid
  from auth.users`

/** In the order of their foreign keys. */
const inserts: Record<keyof typeof shares, string> = {
  session_logs: `
    insert into session_logs (id, user_id, interaction_type, interaction_details, product_track, response_time_ms, trust_delta, created_at)
    select pg_temp.key('session', i), pg_temp.key('user', p),
      (array['discovery_hook','discovery_funnel','spark_layer','purchase_flow','detailed_input','intent_mirror','deliverable','spark_split','feedback'])[1 + pg_temp.pick(i, 12, 9)],
      jsonb_build_object('response_time_ms', 40 + pg_temp.pick(i, 13, 900), 'page', '/step/' || 1 + pg_temp.pick(i, 14, 9)),
      (array['business_builder','social_email','site_audit'])[1 + pg_temp.pick(i, 15, 3)],
      40 + pg_temp.pick(i, 13, 900), (pg_temp.pick(i, 16, 500) / 100.0)::numeric(4, 2), now() - pg_temp.age_of(i, 17, p)
    from generate_series(1, $2::int) i, lateral (select pg_temp.person(i, 10, $1::int) as p) who`,
  initial_prompt_logs: `
    insert into initial_prompt_logs (id, user_id, payload, business_name, custom_tone, created_at)
    select pg_temp.key('initial', i), pg_temp.key('user', p),
      jsonb_build_object('challenge', 'How do I reach ' || pg_temp.pick(i, 22, 900) || ' more customers?', 'revenue', pg_temp.pick(i, 23, 500) * 1000),
      (array['Sprinkle Haven','North Pier Coffee','Oak & Ember','Kite Studio','Blue Door Books'])[1 + pg_temp.pick(i, 24, 5)] || ' ' || p,
      (array['warm','bold','optimistic','professional','playful'])[1 + pg_temp.pick(i, 25, 5)], now() - pg_temp.age_of(i, 26, p)
    from generate_series(1, $2::int) i, lateral (select pg_temp.person(i, 20, $1::int) as p) who`,
  prompt_logs: `
    insert into prompt_logs (id, user_id, initial_prompt_id, prompt, output, created_at)
    select pg_temp.key('prompt', i), initial.user_id, initial.id, 'Write the plan, part ' || i, md5('output:' || i), initial.created_at + interval '2 minutes'
    from generate_series(1, $2::int) i
    join initial_prompt_logs initial on initial.id = pg_temp.key('initial', 1 + pg_temp.pick(i, 30, $3::int))
    where $1::int > 0`,
  spark_logs: `
    insert into spark_logs (id, initial_prompt_id, user_id, selected_spark, regeneration_count, created_at)
    select pg_temp.key('spark', i), initial.id, initial.user_id,
      jsonb_build_object('title', 'Spark ' || pg_temp.pick(i, 41, 5000), 'tagline', md5('tagline:' || i)), pg_temp.pick(i, 42, 4), initial.created_at + interval '1 minute'
    from generate_series(1, $2::int) i
    join initial_prompt_logs initial on initial.id = pg_temp.key('initial', 1 + pg_temp.pick(i, 40, $3::int))
    where $1::int > 0`,
  comparisons: `
    insert into comparisons (id, prompt_id, user_id, canai_output, generic_output, trust_delta, emotional_resonance, created_at)
    select pg_temp.key('comparison', i), prompt.id, prompt.user_id, md5('ours:' || i), md5('generic:' || i),
      (pg_temp.pick(i, 51, 500) / 100.0)::numeric(4, 2), jsonb_build_object('valence', pg_temp.pick(i, 52, 100) / 100.0, 'arousal', pg_temp.pick(i, 53, 100) / 100.0),
      prompt.created_at + interval '1 minute'
    from generate_series(1, $2::int) i
    join prompt_logs prompt on prompt.id = pg_temp.key('prompt', 1 + pg_temp.pick(i, 50, $3::int))
    where $1::int > 0`,
  spark_cache: `
    insert into spark_cache (cache_key, sparks, created_at, expires_at)
    select md5('cache:' || i), jsonb_build_array(jsonb_build_object('title', 'Spark ' || i), jsonb_build_object('title', 'Spark ' || i + 1)),
      now() - age, now() - age + interval '24 hours'
    from generate_series(1, $2::int) i, lateral (select make_interval(secs => pg_temp.pick(i, 60, 172800)) as age) how_old
    where $1::int > 0`,
  payment_logs: `
    insert into payment_logs (id, user_id, stripe_customer_id, stripe_invoice_id, amount_cents, currency, status, card_name, card_last4, product_track, paid_at, created_at)
    select pg_temp.key('payment', i), pg_temp.key('user', p), 'cus_' || left(md5('customer:' || p), 14), 'in_' || left(md5('invoice:' || i), 20),
      (array[9900, 4900, 7900])[1 + pg_temp.pick(i, 72, 3)], 'usd', status, pg_temp.card_name(p), lpad(pg_temp.pick(p, 73, 10000)::text, 4, '0'),
      (array['business_builder','social_email','site_audit'])[1 + pg_temp.pick(i, 72, 3)], case when status = 'paid' then now() - age end, now() - age
    from generate_series(1, $2::int) i, lateral (select pg_temp.person(i, 70, $1::int) as p) who,
      lateral (select pg_temp.age_of(i, 74, p) as age, (array['paid','paid','paid','paid','paid','paid','paid','failed','refunded','pending'])[1 + pg_temp.pick(i, 75, 10)] as status) what`,
  feedback_logs: `
    insert into feedback_logs (id, user_id, contact_email, rating, comments, improvement_suggestions, anonymized, created_at)
    select pg_temp.key('feedback', i), case when i % 20 <> 0 then pg_temp.key('user', p) end,
      -- From the website, typed by hand: the address in whatever case.
      case when i % 20 = 0 then case when i % 40 = 0 then upper(pg_temp.email(p)) else pg_temp.email(p) end end,
      1 + pg_temp.pick(i, 82, 5), 'It helped me with part ' || pg_temp.pick(i, 83, 1000), 'More examples for case ' || pg_temp.pick(i, 84, 1000), false, now() - pg_temp.age_of(i, 85, p)
    from generate_series(1, $2::int) i, lateral (select pg_temp.person(i, 80, $1::int) as p) who`,
  usage_logs: `
    insert into usage_logs (user_id, feature, quantity, created_at)
    select pg_temp.key('user', p), (array['spark','plan','audit','share','export'])[1 + pg_temp.pick(i, 92, 5)], 1 + pg_temp.pick(i, 93, 5), now() - pg_temp.age_of(i, 94, p)
    from generate_series(1, $2::int) i, lateral (select pg_temp.person(i, 90, $1::int) as p) who`,
  share_logs: `
    insert into share_logs (id, user_id, channel, recipient_email, message, created_at)
    select pg_temp.key('share', i), pg_temp.key('user', p), channel,
      -- Half of those written to have an account of their own.
      case when channel = 'email' then case when i % 2 = 0 then pg_temp.email(1 + pg_temp.pick(i, 102, $1::int)) else 'friend' || i || '@example.org' end end,
      'Have a look at this', now() - pg_temp.age_of(i, 103, p)
    from generate_series(1, $2::int) i, lateral (select pg_temp.person(i, 100, $1::int) as p, (array['email','link','social'])[1 + pg_temp.pick(i, 104, 3)] as channel) who`,
  error_logs: `
    insert into error_logs (id, user_id, error_type, severity, message, context, created_at)
    select pg_temp.key('error', i), case when i % 3 = 0 then pg_temp.key('user', p) end,
      (array['timeout','rate_limit','validation','upstream','database'])[1 + pg_temp.pick(i, 112, 5)],
      (array['info','warning','error','error','error','error','error','error','error','critical'])[1 + pg_temp.pick(i, 113, 10)],
      'The request took too long (' || pg_temp.pick(i, 114, 30000) || ' ms)', jsonb_build_object('endpoint', '/v1/messages', 'status', 500 + pg_temp.pick(i, 115, 5)),
      -- Two thirds are recent; the rest waits to be archived.
      now() - case when i <= 3 then pg_temp.age_of(i, 116, p) when i % 3 = 1 then make_interval(secs => 2592000 + pg_temp.pick(i, 117, 2592000)) else make_interval(secs => pg_temp.pick(i, 118, 2592000)) end
    from generate_series(1, $2::int) i, lateral (select pg_temp.person(i, 110, $1::int) as p) who`,
  error_logs_archive: `
    insert into error_logs_archive (id, user_id, error_type, severity, message, context, created_at)
    select pg_temp.key('archived', i), case when i % 3 = 0 then pg_temp.key('user', pg_temp.person(i, 120, $1::int)) end, 'timeout', 'error',
      'The request took too long (' || pg_temp.pick(i, 121, 30000) || ' ms)', '{}', now() - make_interval(days => 61 + pg_temp.pick(i, 122, 800))
    from generate_series(1, $2::int) i`,
}

const parents: Partial<Record<keyof typeof shares, keyof typeof shares>> = {
  prompt_logs: 'initial_prompt_logs',
  spark_logs: 'initial_prompt_logs',
  comparisons: 'prompt_logs',
}

const insertTrustIndicators = `
  insert into trust_indicators (name, label, count) values
    ('plans_created', 'Plans created', 655), ('sparks_lit', 'Sparks lit', 18240), ('hours_saved', 'Hours saved', 4120), ('happy_founders', 'Happy founders', 500)`

/** Earlier months have their report; last month's is still to be written. */
const insertPerformanceReports = `
  insert into performance_reports (month, avg_response_time, total_users, total_plans_created, avg_trust_delta, uptime_percentage)
  select date_trunc('month', now()) - make_interval(months => m), 380 + m, 300 - 10 * m, 400 - 20 * m, 2.4, 99.95
  from generate_series(2, 6) m`

/** Every tenth of the first 200 people has recorded something; some of them twice. */
async function insertFiles(tx: Transaction, people: number): Promise<number> {
  await tx.execute(`insert into storage.buckets (id, name, public) values ($1, $1, false) on conflict do nothing`, [voiceNotes])
  const owners = await tx.query<{ id: string; p: number }>(
    `select pg_temp.key('user', p) as id, p from generate_series(1, least(200, $1::int), 10) p order by p`,
    [people],
  )
  const files = owners.flatMap(({ id, p }) =>
    ['hello.wav', ...(p % 20 === 1 ? ['plan/idea.wav'] : [])].map((name) => ({ owner: id, name: `${id}/${name}` })),
  )
  for (const { owner, name } of files) {
    const bytes = exampleFile({ bucket: voiceNotes, name }).byteLength
    const metadata = {
      eTag: '""',
      size: bytes,
      mimetype: 'audio/wav',
      cacheControl: 'max-age=3600',
      contentLength: bytes,
      httpStatusCode: 200,
    }
    await tx.execute(
      `insert into storage.objects (id, bucket_id, name, owner, owner_id, metadata, version)
       values (md5('object:' || $2)::uuid, $1, $2, $3::uuid, $3, $4::jsonb, md5('version:' || $2)::uuid::text)`,
      [voiceNotes, name, owner, JSON.stringify(metadata)],
    )
  }
  return files.length
}
