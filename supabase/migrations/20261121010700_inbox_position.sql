-- Where an event stands among those of its object: the provider's time and, within one instant, the state the object
-- was in (milliseconds × 16 + rank). Sources without a time of their own count states alone.
alter table caretaker.inbox add column position bigint not null default 0;
update caretaker.inbox set position = floor(extract(epoch from occurred_at) * 1000)::bigint * 16 where occurred_at is not null;
drop index caretaker.inbox_object;
create index inbox_object on caretaker.inbox (object_tag, position, id) where state = 'received';

-- What is due is found on the walk in order; an index of its own only made every insert dearer.
drop index caretaker.inbox_waiting;

-- For counting and pruning by age; a block range index costs an insert nothing.
create index inbox_received on caretaker.inbox using brin (received_at);

-- How far each object is: what arrives with a lower position is late. The row is also the lock that keeps two handlers
-- from working on one object at a time.
create table caretaker.inbox_objects (
  source text not null,
  object_tag bytea not null,
  position bigint not null default 0,
  -- A keyed hash of the object's state when it was applied last: of two events of one instant it tells whether they say the same.
  state_tag bytea,
  touched_at timestamptz not null default now(),
  primary key (source, object_tag)
);
alter table caretaker.inbox_objects enable row level security;
do $$
begin
  if exists (select from pg_roles where rolname = 'service_role') then
    grant all on caretaker.inbox_objects to service_role;
  end if;
end
$$;
