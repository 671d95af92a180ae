-- Which object an event is about (Stripe's in_…, cus_…), as a keyed hash: events of one object are applied in the
-- provider's order, and the id itself stays in the encrypted payload.
alter table caretaker.inbox add column object_tag bytea;

-- Serves the claim (oldest first) and its question whether an earlier event of the same object still waits.
create index inbox_in_order on caretaker.inbox (occurred_at, id) where state = 'received';
create index inbox_object on caretaker.inbox (source, object_tag, occurred_at, id) where state = 'received';
