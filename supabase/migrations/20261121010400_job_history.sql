-- What a run tells of itself beside its state, so that nothing about it is heard twice and nothing goes unheard.
alter table caretaker.runs
  -- Which deployment's policy the run stands for: another deployment may not know the job.
  add column deployment text not null default 'default',
  -- Which of the job's places beside each other the run has, from 0; null until it is dispatched.
  add column lane int,
  -- Hand-overs in a row that got nothing done.
  add column fruitless int not null default 0,
  -- When it was found waiting past its start grace, at work past its run grace, and without a worker: said once each.
  add column overdue_at timestamptz,
  add column overran_at timestamptz,
  add column abandoned_at timestamptz;
create index runs_finished on caretaker.runs (finished_at) where finished_at is not null;

-- Several deployments may work on one database, each with a policy of its own: each is watched by itself.
alter table caretaker.watched_jobs
  add column deployment text not null default 'default',
  drop constraint watched_jobs_pkey,
  add primary key (deployment, job);

-- For housekeeping: what was delivered, and what nobody came for.
create index outbox_age on caretaker.outbox (at);
