comment on column ops.drift.kind is 'unknown_member, missing_member, bad_value, unknown_status, media_type or dropped_ability.';

alter table ops.runs add column streams VARCHAR[];
comment on column ops.runs.streams is 'Streams that the contract switched on; null for runs that read none, and for those of older versions.';

-- Streams that the contract adds: their tables are made when a run first needs them (sql/generic_stream.sql), and this view over all of them again.
create view ops.generic_rows as
select null::VARCHAR as stream, null::VARCHAR as account_id, null::TIMESTAMPTZ as deleted_at where false;
comment on view ops.generic_rows is 'One row per row of every stream that the contract adds. Key: stream, account_id and a record.';
comment on column ops.generic_rows.stream is 'Stream.';
comment on column ops.generic_rows.account_id is 'Account.';
comment on column ops.generic_rows.deleted_at is 'Null for a live row.';
