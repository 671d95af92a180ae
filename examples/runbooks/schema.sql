-- An AI assistant on Netlify, with Stripe for money and OpenAI for answers. Times are timestamptz; a person is a row of auth.users.

-- People and what they may do -------------------------------------------------------------------------------------------

create table profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  display_name text not null,
  locale text not null default 'en',
  created_at timestamptz not null default now()
);

create table subscriptions (
  user_id uuid primary key references auth.users (id) on delete cascade,
  stripe_customer_id text unique,
  plan text not null default 'free' check (plan in ('free', 'pro', 'team')),
  -- Tokens a month: alerts fire at 70 and at 90 percent of it.
  token_limit bigint not null default 100000,
  status text not null default 'active' check (status in ('active', 'past_due', 'canceled')),
  current_period_end timestamptz
);

create table api_keys (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  name text not null,
  -- SHA-256 of the key: the key itself is shown once and stored nowhere.
  key_hash text not null unique,
  last_used_at timestamptz,
  -- A rotated key works for another day, then it is gone.
  revoked_at timestamptz,
  created_at timestamptz not null default now()
);
create index idx_api_keys_user_id on api_keys (user_id);

create table connected_accounts (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  provider text not null check (provider in ('google', 'github', 'slack')),
  -- Encrypted by the app with its database encryption key.
  access_token_encrypted text not null,
  created_at timestamptz not null default now(),
  unique (user_id, provider)
);

-- What they do ----------------------------------------------------------------------------------------------------------

create table conversations (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  title text not null,
  created_at timestamptz not null default now(),
  deleted_at timestamptz
);
create index idx_conversations_user_id on conversations (user_id);
create index idx_conversations_deleted_at on conversations (deleted_at) where deleted_at is not null;

create table messages (
  id uuid primary key default gen_random_uuid(),
  conversation_id uuid not null references conversations (id) on delete cascade,
  role text not null check (role in ('user', 'assistant')),
  content text not null,
  created_at timestamptz not null default now()
);
create index idx_messages_conversation_id on messages (conversation_id, created_at);

create table token_usage (
  id bigint generated always as identity primary key,
  user_id uuid not null references auth.users (id) on delete cascade,
  model text not null,
  prompt_tokens int not null,
  completion_tokens int not null,
  created_at timestamptz not null default now()
);
create index idx_token_usage_user_id on token_usage (user_id, created_at);
create index idx_token_usage_created_at on token_usage (created_at);

create table payments (
  id uuid primary key default gen_random_uuid(),
  -- Invoices outlive the account: tax law.
  user_id uuid references auth.users (id) on delete set null,
  stripe_invoice_id text unique,
  billing_name text,
  amount_cents int not null,
  currency char(3) not null default 'usd',
  status text not null default 'pending' check (status in ('pending', 'paid', 'failed', 'refunded')),
  paid_at timestamptz,
  created_at timestamptz not null default now()
);
create index idx_payments_user_id on payments (user_id);

-- What operations look at -----------------------------------------------------------------------------------------------

create table request_logs (
  id bigint generated always as identity primary key,
  user_id uuid references auth.users (id) on delete set null,
  function_name text not null,
  status smallint not null,
  duration_ms int not null,
  created_at timestamptz not null default now()
);
create index idx_request_logs_user_id on request_logs (user_id);
create index idx_request_logs_created_at on request_logs (created_at);

create table error_logs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete set null,
  severity text not null check (severity in ('P0', 'P1', 'P2', 'P3')),
  message text not null,
  context jsonb not null default '{}',
  created_at timestamptz not null default now()
);
create index idx_error_logs_user_id on error_logs (user_id);
create index idx_error_logs_created_at on error_logs (created_at);

create table auth_attempts (
  id bigint generated always as identity primary key,
  -- Whoever fails to sign in is nobody yet: the address is all that says who it was.
  email text not null,
  succeeded boolean not null,
  ip_address inet,
  created_at timestamptz not null default now()
);
create index idx_auth_attempts_email on auth_attempts (lower(email));
create index idx_auth_attempts_created_at on auth_attempts (created_at);

create table audit_logs (
  id bigint generated always as identity primary key,
  user_id uuid references auth.users (id) on delete set null,
  action text not null,
  resource text not null,
  ip_address inet,
  created_at timestamptz not null default now()
);
create index idx_audit_logs_user_id on audit_logs (user_id);
create index idx_audit_logs_created_at on audit_logs (created_at);

create table usage_reports (
  month date not null,
  model text not null,
  active_users int not null,
  prompt_tokens bigint not null,
  completion_tokens bigint not null,
  primary key (month, model)
);

create table performance_metrics (
  day date not null,
  function_name text not null,
  requests int not null,
  error_rate numeric(6, 5) not null,
  p50_ms int not null,
  p95_ms int not null,
  primary key (day, function_name)
);

-- Compliance ------------------------------------------------------------------------------------------------------------

-- The app's own log of requests, older than Caretaker's: it proves that they were answered in time.
create table gdpr_requests (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete set null,
  requester_email text,
  kind text not null check (kind in ('access', 'rectification', 'erasure', 'portability')),
  identity_verified_at timestamptz,
  due_at timestamptz not null,
  completed_at timestamptz,
  created_at timestamptz not null default now()
);
create index idx_gdpr_requests_user_id on gdpr_requests (user_id);
create index idx_gdpr_requests_requester_email on gdpr_requests (lower(requester_email));

-- Who sees what ---------------------------------------------------------------------------------------------------------

alter table profiles enable row level security;
alter table subscriptions enable row level security;
alter table api_keys enable row level security;
alter table connected_accounts enable row level security;
alter table conversations enable row level security;
alter table messages enable row level security;
alter table token_usage enable row level security;
alter table payments enable row level security;
alter table request_logs enable row level security;
alter table error_logs enable row level security;
alter table auth_attempts enable row level security;
alter table audit_logs enable row level security;
alter table usage_reports enable row level security;
alter table performance_metrics enable row level security;
alter table gdpr_requests enable row level security;

-- (select auth.uid()) is computed once a statement; auth.uid() would be computed once a row.
create policy own_row on profiles for select to authenticated using (id = (select auth.uid()));
create policy change_own on profiles for update to authenticated using (id = (select auth.uid())) with check (id = (select auth.uid()));
create policy own_rows on subscriptions for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on api_keys for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on conversations for select to authenticated using (user_id = (select auth.uid()));
create policy add_own on conversations for insert to authenticated with check (user_id = (select auth.uid()));
create policy own_rows on messages for select to authenticated
  using (exists (select from conversations c where c.id = conversation_id and c.user_id = (select auth.uid())));
create policy own_rows on token_usage for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on payments for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on gdpr_requests for select to authenticated using (user_id = (select auth.uid()));
-- connected_accounts, the logs and the reports have no policy: the service role alone reads them.
