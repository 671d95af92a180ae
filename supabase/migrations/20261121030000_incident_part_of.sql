-- A consequence that was seen before its cause: when the cause shows, its incident ends as a part of the cause's, whose number this is.
alter table caretaker.incidents add column part_of int;
