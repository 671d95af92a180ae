-- Windows differ in length, so each counter says itself when nobody needs it any more; what has expired is swept by hits.
alter table caretaker.rate_limits add column expires_at timestamptz not null default now() + interval '2 days';
create index rate_limits_expired on caretaker.rate_limits (expires_at);
