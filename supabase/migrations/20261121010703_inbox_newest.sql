-- The newest event of each object that was applied, by its own position: what a late one is brought up to date with.
-- Where `position` is past it, the object was looked up at the provider since.
alter table caretaker.inbox_objects add column newest_id bigint, add column newest_position bigint not null default 0;
