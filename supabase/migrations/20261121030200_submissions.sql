-- What browsers sent from the dashboard's pages: the same page's same form counts once, however often its button is pressed.
-- `key` is a hash of the session, the page and all that was sent; `answer` is where the first one ended and what it said.
create table caretaker.submissions (
  key bytea primary key,
  session_id uuid not null references caretaker.sessions (id) on delete cascade,
  at timestamptz not null,
  answer jsonb
);
create index submissions_session on caretaker.submissions (session_id);
comment on table caretaker.submissions is 'Forms that browsers have sent, so that none counts twice; they go with their sessions.';
alter table caretaker.submissions enable row level security;

-- Browsers in which somebody has signed in with an account: what strangers try elsewhere does not use up their attempts.
-- `hash` is of the browser's cookie (256 random bits) and the address together: it names nobody.
create table caretaker.known_browsers (
  hash bytea primary key,
  expires_at timestamptz not null
);
create index known_browsers_expired on caretaker.known_browsers (expires_at);
comment on table caretaker.known_browsers is 'Browsers in which an account has signed in; neither the cookie nor the account is kept.';
alter table caretaker.known_browsers enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.submissions, caretaker.known_browsers to service_role;
  end if;
end
$$;
