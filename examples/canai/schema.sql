-- The app's own tables, as they stand in a Supabase project. Times are timestamptz; a person is a row of auth.users.

-- Conversations and what became of them ---------------------------------------------------------------------------------

create table session_logs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  interaction_type text not null,
  interaction_details jsonb not null default '{}',
  product_track text check (product_track in ('business_builder', 'social_email', 'site_audit')),
  response_time_ms int,
  trust_delta numeric(4, 2),
  created_at timestamptz not null default now()
);
create index idx_session_logs_user_id on session_logs (user_id);
create index idx_session_logs_created_at on session_logs (created_at);
-- "The last 30 days" cannot stand in an index predicate (now() is not immutable); the leading columns find them as fast.
create index idx_session_logs_performance on session_logs (user_id, created_at desc, interaction_type);

create table initial_prompt_logs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  payload jsonb not null default '{}',
  business_name text,
  custom_tone text,
  created_at timestamptz not null default now()
);
create index idx_initial_prompt_logs_user_id on initial_prompt_logs (user_id);
create index idx_initial_prompt_logs_created_at on initial_prompt_logs (created_at);

create table prompt_logs (
  id uuid primary key default gen_random_uuid(),
  -- No action: a person's prompts have to be deleted before the person.
  user_id uuid not null references auth.users (id),
  initial_prompt_id uuid references initial_prompt_logs (id) on delete set null,
  prompt text not null,
  output text,
  created_at timestamptz not null default now()
);
create index idx_prompt_logs_user_id on prompt_logs (user_id);
create index idx_prompt_logs_initial_prompt_id on prompt_logs (initial_prompt_id);

create table spark_logs (
  id uuid primary key default gen_random_uuid(),
  initial_prompt_id uuid not null references initial_prompt_logs (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  selected_spark jsonb,
  regeneration_count int not null default 0,
  created_at timestamptz not null default now()
);
create index idx_spark_logs_initial_prompt_id on spark_logs (initial_prompt_id);
create index idx_spark_logs_user_id on spark_logs (user_id);

create table comparisons (
  id uuid primary key default gen_random_uuid(),
  prompt_id uuid not null references prompt_logs (id) on delete restrict,
  user_id uuid references auth.users (id) on delete set null,
  canai_output text not null,
  generic_output text not null,
  trust_delta numeric(4, 2) not null,
  emotional_resonance jsonb,
  created_at timestamptz not null default now()
);
create index idx_comparisons_prompt_id on comparisons (prompt_id);
create index idx_comparisons_user_id on comparisons (user_id);
create index idx_comparisons_trust_delta on comparisons (trust_delta);

create table spark_cache (
  cache_key text primary key,
  sparks jsonb not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index idx_spark_cache_expires_at on spark_cache (expires_at);

-- Money, opinions, use --------------------------------------------------------------------------------------------------

create table payment_logs (
  id uuid primary key default gen_random_uuid(),
  -- Invoices outlive the account: tax law.
  user_id uuid references auth.users (id) on delete set null,
  stripe_customer_id text,
  stripe_invoice_id text unique,
  amount_cents int not null,
  currency char(3) not null default 'usd',
  status text not null default 'pending' check (status in ('pending', 'paid', 'failed', 'refunded')),
  card_name text,
  card_last4 char(4),
  product_track text,
  paid_at timestamptz,
  created_at timestamptz not null default now()
);
create index idx_payment_logs_user_id on payment_logs (user_id);
create index idx_payment_logs_stripe_customer_id on payment_logs (stripe_customer_id);

create table feedback_logs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete set null,
  -- Some feedback comes from the website, without an account: the address is all that says whose it is.
  contact_email text,
  rating smallint check (rating between 1 and 5),
  comments text,
  improvement_suggestions text,
  anonymized boolean not null default false,
  created_at timestamptz not null default now()
);
create index idx_feedback_logs_user_id on feedback_logs (user_id);
create index idx_feedback_logs_contact_email on feedback_logs (lower(contact_email));
create index idx_feedback_logs_created_at on feedback_logs (created_at);

create table usage_logs (
  id bigint generated always as identity primary key,
  user_id uuid not null references auth.users (id) on delete cascade,
  feature text not null,
  quantity int not null default 1,
  created_at timestamptz not null default now()
);
create index idx_usage_logs_user_id on usage_logs (user_id);

create table share_logs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id),
  channel text not null check (channel in ('email', 'link', 'social')),
  recipient_email text,
  message text,
  created_at timestamptz not null default now()
);
create index idx_share_logs_user_id on share_logs (user_id);
create index idx_share_logs_recipient_email on share_logs (lower(recipient_email));

-- Errors ----------------------------------------------------------------------------------------------------------------

create table error_logs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete set null,
  error_type text not null,
  severity text not null default 'error' check (severity in ('info', 'warning', 'error', 'critical')),
  message text not null,
  context jsonb not null default '{}',
  created_at timestamptz not null default now()
);
create index idx_error_logs_user_id on error_logs (user_id);
create index idx_error_logs_created_at on error_logs (created_at);

-- The same columns in the same order, and a primary key: a row that were archived twice would show. No foreign key:
-- what is filed away does not follow the account.
create table error_logs_archive (
  id uuid primary key,
  user_id uuid,
  error_type text not null,
  severity text not null,
  message text not null,
  context jsonb not null,
  created_at timestamptz not null
);
create index idx_error_logs_archive_user_id on error_logs_archive (user_id);
create index idx_error_logs_archive_created_at on error_logs_archive (created_at);

-- Figures ---------------------------------------------------------------------------------------------------------------

create table trust_indicators (
  id int generated always as identity primary key,
  name text not null unique,
  label text not null,
  count bigint not null default 0,
  updated_at timestamptz not null default now()
);

create table performance_reports (
  id int generated always as identity primary key,
  month date not null unique,
  avg_response_time numeric(10, 2),
  total_users int not null,
  total_plans_created int not null,
  avg_trust_delta numeric(6, 3),
  uptime_percentage numeric(6, 3) not null,
  created_at timestamptz not null default now()
);

/*
 * A month's uptime in percent: what the health job saw, where it was looking all month long; else the share of minutes
 * without a critical error, of the current month so far.
 */
create function calculate_uptime(month timestamptz) returns numeric language plpgsql stable as $$
declare
  seen numeric;
begin
  if to_regprocedure('caretaker.uptime(timestamptz, timestamptz, interval)') is not null then
    select u.at_least into seen from caretaker.uptime(month, month + interval '1 month') u where u.unknown < interval '1 hour';
  end if;
  return coalesce(seen, (
    with bounds as (
      select month as starts, least(month + interval '1 month', now()) as ends
    ), down as (
      select count(distinct date_trunc('minute', created_at)) as minutes
      from error_logs, bounds
      where severity = 'critical' and created_at >= starts and created_at < ends
    )
    select round(100 - 100.0 * down.minutes / greatest(1, extract(epoch from ends - starts) / 60), 3)
    from bounds, down
  ));
end
$$;

create materialized view daily_metrics as
  select
    date_trunc('day', created_at) as date,
    count(distinct user_id) as unique_users,
    count(*) as total_interactions,
    avg((interaction_details ->> 'response_time_ms')::int) as avg_response_time
  from session_logs
  where created_at > now() - interval '90 days'
  group by date_trunc('day', created_at)
  order by date desc;
-- A plain unique index: without one the view cannot be refreshed concurrently.
create unique index daily_metrics_date on daily_metrics (date);
revoke all on daily_metrics from anon, authenticated;

-- Who sees what ---------------------------------------------------------------------------------------------------------

alter table session_logs enable row level security;
alter table initial_prompt_logs enable row level security;
alter table prompt_logs enable row level security;
alter table spark_logs enable row level security;
alter table comparisons enable row level security;
alter table spark_cache enable row level security;
alter table payment_logs enable row level security;
alter table feedback_logs enable row level security;
alter table usage_logs enable row level security;
alter table share_logs enable row level security;
alter table error_logs enable row level security;
alter table error_logs_archive enable row level security;
alter table trust_indicators enable row level security;
alter table performance_reports enable row level security;

-- (select auth.uid()) is computed once a statement; auth.uid() would be computed once a row.
create policy own_rows on session_logs for select to authenticated using (user_id = (select auth.uid()));
create policy add_own on session_logs for insert to authenticated with check (user_id = (select auth.uid()));
create policy own_rows on initial_prompt_logs for select to authenticated using (user_id = (select auth.uid()));
create policy add_own on initial_prompt_logs for insert to authenticated with check (user_id = (select auth.uid()));
create policy own_rows on prompt_logs for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on spark_logs for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on comparisons for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on payment_logs for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on feedback_logs for select to authenticated using (user_id = (select auth.uid()));
create policy add_own on feedback_logs for insert to authenticated with check (user_id = (select auth.uid()));
create policy own_rows on usage_logs for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on share_logs for select to authenticated using (user_id = (select auth.uid()));
create policy everyone on trust_indicators for select to anon, authenticated using (true);
-- spark_cache, error_logs, error_logs_archive and performance_reports have no policy: the service role alone reads them.

create policy own_voice_notes on storage.objects for select to authenticated
  using (bucket_id = 'voice-notes' and (storage.foldername(name))[1] = (select auth.uid())::text);
