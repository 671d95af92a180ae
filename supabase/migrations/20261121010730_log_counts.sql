-- What the hosts' log drains tell, counted by the minute: requests by class of status, lines by level. No line is kept.
create table caretaker.log_counts (
  minute timestamptz not null,
  -- The host that sent it: vercel, netlify.
  host text not null,
  -- http_2xx … http_5xx, log_error, log_warning, log_info…
  kind text not null,
  count int not null,
  primary key (minute, host, kind)
);

-- Batches that were counted: one that is sent again is not.
create table caretaker.log_batches (
  hash bytea primary key,
  at timestamptz not null default now()
);

alter table caretaker.log_counts enable row level security;
alter table caretaker.log_batches enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.log_counts, caretaker.log_batches to service_role;
  end if;
end
$$;
