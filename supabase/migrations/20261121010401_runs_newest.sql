-- The history is read newest first: of all jobs, of one, or of one state. It grows to some hundred thousand rows.
create index runs_newest on caretaker.runs (queued_at desc, slot desc);
