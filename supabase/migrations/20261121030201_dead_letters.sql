-- What is dead is counted at each look at the overview, and listed newest first; of all that was applied or delivered it is a handful.
create index inbox_dead on caretaker.inbox (id) where state = 'dead';
create index deliveries_dead on caretaker.deliveries (id) where state = 'dead';
