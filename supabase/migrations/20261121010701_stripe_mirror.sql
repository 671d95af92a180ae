-- Stripe's objects as its events tell them, where the policy asks for a mirror. Amounts are in the currency's smallest unit.

create table caretaker.stripe_customers (
  id text primary key,
  -- The connected account it belongs to; null for the platform's own.
  account text,
  email text,
  name text,
  currency text,
  balance bigint,
  delinquent boolean,
  livemode boolean,
  metadata jsonb not null default '{}',
  created_at timestamptz,
  deleted_at timestamptz,
  -- When Stripe said so last.
  as_of timestamptz not null
);

create table caretaker.stripe_subscriptions (
  id text primary key,
  account text,
  customer_id text,
  status text,
  price_ids text[] not null default '{}',
  quantity bigint,
  currency text,
  current_period_start timestamptz,
  current_period_end timestamptz,
  cancel_at_period_end boolean,
  cancel_at timestamptz,
  canceled_at timestamptz,
  ended_at timestamptz,
  trial_end timestamptz,
  livemode boolean,
  metadata jsonb not null default '{}',
  created_at timestamptz,
  deleted_at timestamptz,
  as_of timestamptz not null
);
create index stripe_subscriptions_customer on caretaker.stripe_subscriptions (customer_id);

create table caretaker.stripe_invoices (
  id text primary key,
  account text,
  customer_id text,
  subscription_id text,
  number text,
  status text,
  currency text,
  amount_due bigint,
  amount_paid bigint,
  amount_remaining bigint,
  total bigint,
  due_at timestamptz,
  paid_at timestamptz,
  period_start timestamptz,
  period_end timestamptz,
  livemode boolean,
  metadata jsonb not null default '{}',
  created_at timestamptz,
  deleted_at timestamptz,
  as_of timestamptz not null
);
create index stripe_invoices_customer on caretaker.stripe_invoices (customer_id);

-- Payment intents; what was given back comes with their charges.
create table caretaker.stripe_payments (
  id text primary key,
  account text,
  customer_id text,
  status text,
  currency text,
  amount bigint,
  amount_received bigint,
  amount_refunded bigint,
  canceled_at timestamptz,
  livemode boolean,
  metadata jsonb not null default '{}',
  created_at timestamptz,
  deleted_at timestamptz,
  as_of timestamptz not null
);
create index stripe_payments_customer on caretaker.stripe_payments (customer_id);

do $$
declare
  t text;
begin
  foreach t in array array['stripe_customers', 'stripe_subscriptions', 'stripe_invoices', 'stripe_payments'] loop
    execute format('alter table caretaker.%I enable row level security', t);
    if exists (select from pg_roles where rolname = 'service_role') then
      execute format('grant all on caretaker.%I to service_role', t);
    end if;
  end loop;
end
$$;
