-- Events of the app that some policy gives a meaning to, where several deployments, or two versions of one while it is replaced, work on one
-- database: what means nothing to the one that looks is left to the one that it means something to.
create table caretaker.alert_topics (
  environment text not null,
  topic text not null,
  -- When a policy that has it was evaluated last, to ten minutes.
  seen_at timestamptz not null,
  primary key (environment, topic)
);

alter table caretaker.alert_topics enable row level security;

do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.alert_topics to service_role;
  end if;
end
$$;
