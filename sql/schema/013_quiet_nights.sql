-- What pages are read by is noted from here on though no row changed: stored rows that something else has shaped are told at once.
alter table ops.shapes alter column first_used_at drop not null;
comment on column ops.shapes.first_used_at is 'When it first shaped a row that was written (local clock, UTC); null where none was yet, and it is what the newest page was read by.';
comment on column ops.shapes.contract_hash is 'Hash of what in the contract shapes the stream''s columns, and of the version of the code; unknown: of rows that are older than schema 12.';
