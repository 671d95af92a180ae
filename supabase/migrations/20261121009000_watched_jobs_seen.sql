-- When a tick last saw the job in the policy: one that was taken out and put back owes nothing for the time between.
alter table caretaker.watched_jobs add column seen_at timestamptz;
