-- Whose policy has the rule, where several deployments work on one database: another's evaluation leaves its alerts alone.
alter table caretaker.alerts add column deployment text not null default 'default';
