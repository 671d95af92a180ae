-- A snapshot is a few seconds' cache: what a crash of the server takes is looked at anew. Without a log neither taking
-- the lease nor storing a result waits for the disk.
alter table caretaker.health_snapshots set unlogged;
