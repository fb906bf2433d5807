-- Which member each column of a view of a stream that the contract adds stands for (resources/generic.py). Only a member that is redacted leaves it.
create table ops.generic_columns (
    stream        VARCHAR not null,
    kind          VARCHAR not null,
    member        VARCHAR not null,
    column_name   VARCHAR not null,
    column_type   VARCHAR not null,
    place         INTEGER not null,
    first_seen_at TIMESTAMPTZ not null
);
comment on table ops.generic_columns is 'Columns of the marts views of lists that the contract adds: one row per member that a record ever held a value of. Key: stream, kind, member.';
comment on column ops.generic_columns.stream is 'Stream.';
comment on column ops.generic_columns.kind is 'attribute or relationship.';
comment on column ops.generic_columns.member is 'The name as the API sends it.';
comment on column ops.generic_columns.column_name is 'The name in marts.<stream>, which stands for this member alone.';
comment on column ops.generic_columns.column_type is 'Type in marts.<stream>; it stays, but for BIGINT, which becomes DECIMAL(38,9) with the first fraction.';
comment on column ops.generic_columns.place is 'Order of the columns in marts.<stream>, after those that every such view has; a later one comes last.';
comment on column ops.generic_columns.first_seen_at is 'When publishing first saw a value of it (local clock, UTC).';
