-- Which object an event is about (Stripe's in_…, cus_…), as a keyed hash: events of one object are applied in the
-- provider's order, and the id itself stays in the encrypted payload.
alter table caretaker.inbox add column object_tag bytea;

-- The claim walks the first index, oldest first, and stops at the first event that no earlier one of its object stands
-- before, which the second answers. A tag belongs to one source, so the second needs no source: with it, the planner
-- took that index for the walk too, read all that waited and sorted it, at every claim.
create index inbox_in_order on caretaker.inbox (source, occurred_at, id) where state = 'received';
create index inbox_object on caretaker.inbox (object_tag, occurred_at, id) where state = 'received';
