-- Messages to subscribers. The payload is encrypted with the field key.
create table caretaker.messages (
  -- Also the webhook-id that receivers tell repeats by.
  id text primary key,
  type text not null,
  at timestamptz not null,
  payload bytea not null,
  created_at timestamptz not null default now()
);
create index messages_created on caretaker.messages using brin (created_at);

-- One message to one subscriber. An attempt is counted, and the next one put off, before it is made.
create table caretaker.deliveries (
  id bigint generated always as identity primary key,
  message_id text not null references caretaker.messages on delete cascade,
  subscriber text not null,
  state text not null default 'waiting' check (state in ('waiting', 'delivered', 'dead')),
  attempts int not null default 0,
  next_attempt_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  delivered_at timestamptz,
  -- The HTTP status of the last answer; null where none came.
  status int,
  error jsonb,
  unique (message_id, subscriber)
);
create index deliveries_waiting on caretaker.deliveries (subscriber, next_attempt_at) where state = 'waiting';

-- The circuit breaker of each subscriber.
create table caretaker.subscribers (
  name text primary key,
  -- One after the other, without a success between.
  failures int not null default 0,
  -- Until then nothing is sent; after it one delivery tries.
  open_until timestamptz,
  -- It answered 410: it wants nothing any more.
  gone_at timestamptz
);

alter table caretaker.messages enable row level security;
alter table caretaker.deliveries enable row level security;
alter table caretaker.subscribers enable row level security;

-- Which events were looked at for subscribers; and which came from the app, whose payloads are not Caretaker's to keep.
alter table caretaker.outbox add column forwarded_at timestamptz, add column app boolean not null default false;
create index outbox_unforwarded on caretaker.outbox (id) where forwarded_at is null;

-- For the app's own SQL (a trigger, a function): tells subscribers of something, if the transaction commits.
create function caretaker.emit(type text, data jsonb) returns void
language plpgsql security definer set search_path = '' as $$
begin
  if emit.type is null or emit.type !~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$' then
    raise exception 'caretaker.emit: the type is "%", expected words joined by dots, such as "order.paid"', emit.type using errcode = '22023';
  end if;
  insert into caretaker.outbox (topic, payload, app) values (emit.type, coalesce(emit.data, '{}'), true);
end
$$;
revoke execute on function caretaker.emit(text, jsonb) from public;

do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.messages, caretaker.deliveries, caretaker.subscribers to service_role;
    grant execute on function caretaker.emit(text, jsonb) to service_role;
  end if;
end
$$;
