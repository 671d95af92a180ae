-- A shop for digital courses on Supabase, with Stripe for money, STACK Auth for accounts and n8n for workflows. Times are
-- timestamptz. A person is a row of users under the id that STACK Auth gave them: auth.users is empty.

-- People, and what they buy ---------------------------------------------------------------------------------------------

create table users (
  -- STACK Auth's id, the "sub" of its tokens.
  id uuid primary key,
  email text not null unique,
  display_name text not null,
  created_at timestamptz not null default now(),
  last_seen_at timestamptz
);

create table products (
  id int generated always as identity primary key,
  name text not null unique,
  stripe_price_id text not null unique,
  price_cents int not null
);

create table orders (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  product_id int not null references products (id),
  status text not null default 'open' check (status in ('open', 'paid', 'abandoned')),
  created_at timestamptz not null default now()
);
create index idx_orders_user_id on orders (user_id);
create index idx_orders_product_id on orders (product_id);
create index idx_orders_created_at on orders (created_at);

create table invoices (
  id uuid primary key default gen_random_uuid(),
  -- Invoices outlive the account: tax law.
  user_id uuid references users (id) on delete set null,
  order_id uuid references orders (id) on delete set null,
  stripe_customer_id text,
  stripe_invoice_id text not null unique,
  billing_name text,
  billing_address text,
  amount_cents int not null,
  currency char(3) not null default 'eur',
  paid_at timestamptz,
  created_at timestamptz not null default now()
);
create index idx_invoices_user_id on invoices (user_id);
create index idx_invoices_order_id on invoices (order_id);
create index idx_invoices_stripe_customer_id on invoices (stripe_customer_id);

create table uploads (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  -- In the bucket uploads: the first folder is the user's id. The app deletes the file at once, this row says that it did.
  storage_path text not null unique,
  bytes int not null,
  created_at timestamptz not null default now(),
  deleted_at timestamptz
);
create index idx_uploads_user_id on uploads (user_id);

create table user_notifications (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  subject text not null,
  sent_at timestamptz not null default now(),
  read_at timestamptz
);
create index idx_user_notifications_user_id on user_notifications (user_id);
create index idx_user_notifications_sent_at on user_notifications (sent_at);

-- Workflows and flags ---------------------------------------------------------------------------------------------------

create table workflow_runs (
  id bigint generated always as identity primary key,
  workflow text not null,
  -- For whom it ran, where it ran for somebody.
  user_id uuid references users (id) on delete cascade,
  status text not null check (status in ('running', 'done', 'failed')),
  payload jsonb not null default '{}',
  started_at timestamptz not null default now(),
  finished_at timestamptz
);
create index idx_workflow_runs_user_id on workflow_runs (user_id);
create index idx_workflow_runs_started_at on workflow_runs (started_at);

create table feature_flags (
  name text primary key,
  enabled boolean not null default false,
  rollout_percent smallint not null default 0 check (rollout_percent between 0 and 100)
);

-- What is watched -------------------------------------------------------------------------------------------------------

-- A partition a week, by UTC: a week that is past its date is dropped whole. The policy's rule makes the coming ones.
create table request_logs (
  id uuid not null default gen_random_uuid(),
  user_id uuid references users (id) on delete set null,
  route text not null,
  status smallint not null,
  duration_ms int not null,
  created_at timestamptz not null default now(),
  primary key (created_at, id)
) partition by range (created_at);
create index idx_request_logs_user_id on request_logs (user_id);
create index idx_request_logs_created_at on request_logs (created_at);
do $$
declare
  week timestamp;
  name text;
begin
  for week in select date_trunc('week', now() at time zone 'UTC') + n * interval '1 week' from generate_series(-7, 1) n loop
    name := 'request_logs_' || to_char(week, 'IYYY"_w"IW');
    execute format('create table %I partition of request_logs for values from (%L) to (%L)', name, week at time zone 'UTC', (week + interval '1 week') at time zone 'UTC');
    -- Read by its own name, a partition goes by its own policies: it has none.
    execute format('alter table %I enable row level security', name);
  end loop;
end
$$;

create table error_events (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references users (id) on delete set null,
  message text not null,
  stack text not null,
  user_context jsonb not null default '{}',
  created_at timestamptz not null default now()
);
create index idx_error_events_user_id on error_events (user_id);
create index idx_error_events_created_at on error_events (created_at);

create table feature_usage (
  id bigint generated always as identity primary key,
  user_id uuid references users (id) on delete set null,
  feature text not null,
  used_at timestamptz not null default now()
);
create index idx_feature_usage_user_id on feature_usage (user_id);
create index idx_feature_usage_used_at on feature_usage (used_at);

create table feedback (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references users (id) on delete set null,
  contact_email text,
  rating smallint not null check (rating between 1 and 5),
  comment text,
  anonymised boolean not null default false,
  created_at timestamptz not null default now()
);
create index idx_feedback_user_id on feedback (user_id);
create index idx_feedback_contact_email on feedback (lower(contact_email));
create index idx_feedback_created_at on feedback (created_at);

create table adoption_reports (
  week date not null,
  feature text not null,
  users int not null,
  uses int not null,
  primary key (week, feature)
);

-- What is asked of the figures all day; refreshed every night.
create materialized view daily_figures as
  select
    date_trunc('day', created_at) as day,
    count(*) as requests,
    count(*) filter (where status >= 500) as errors,
    percentile_disc(0.95) within group (order by duration_ms) as p95_ms
  from request_logs
  group by 1;
-- A plain unique index: without one the view cannot be refreshed concurrently.
create unique index daily_figures_day on daily_figures (day);
revoke all on daily_figures from anon, authenticated;

-- Who sees what ---------------------------------------------------------------------------------------------------------

alter table users enable row level security;
alter table products enable row level security;
alter table orders enable row level security;
alter table invoices enable row level security;
alter table uploads enable row level security;
alter table user_notifications enable row level security;
alter table workflow_runs enable row level security;
alter table feature_flags enable row level security;
alter table request_logs enable row level security;
alter table error_events enable row level security;
alter table feature_usage enable row level security;
alter table feedback enable row level security;
alter table adoption_reports enable row level security;

-- The tokens are STACK Auth's, whose users are not in auth.users; their "sub" is the id here all the same.
create policy own_row on users for select to authenticated using (id = (select auth.uid()));
create policy change_own on users for update to authenticated using (id = (select auth.uid())) with check (id = (select auth.uid()));
create policy everyone on products for select to anon, authenticated using (true);
create policy own_rows on orders for select to authenticated using (user_id = (select auth.uid()));
create policy add_own on orders for insert to authenticated with check (user_id = (select auth.uid()));
create policy own_rows on invoices for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on uploads for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on user_notifications for select to authenticated using (user_id = (select auth.uid()));
create policy everyone on feature_flags for select to anon, authenticated using (true);
create policy add_own on feedback for insert to authenticated with check (user_id = (select auth.uid()));
-- workflow_runs, the logs and the reports have no policy: the service role alone reads them.

create policy own_uploads on storage.objects for select to authenticated
  using (bucket_id = 'uploads' and (storage.foldername(name))[1] = (select auth.uid())::text);
