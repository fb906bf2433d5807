-- The table of a stream that the contract adds: what every stream has, and the record itself. The stream's name is filled in by resources/generic.py.
create table if not exists core.{stream} (
    account_id        VARCHAR not null,
    record_id         VARCHAR not null,
    created_at        TIMESTAMPTZ,
    updated_at        TIMESTAMPTZ,
    deleted_at        TIMESTAMPTZ,
    deletion_evidence VARCHAR,
    document          JSON using compression zstd,
    content_hash      VARCHAR not null,
    fetched_at        TIMESTAMPTZ not null,
    slice_id          VARCHAR not null
);
comment on table core.{stream} is 'One row per record of the list {stream}, which the contract adds; its attributes are in document, and as columns in marts.{stream}. Key: account_id, record_id.';
comment on column core.{stream}.account_id is 'Account the row belongs to; first part of every key.';
comment on column core.{stream}.record_id is 'Id of the record, opaque text.';
comment on column core.{stream}.created_at is 'When the API says the record was created (UTC); null where it sends none.';
comment on column core.{stream}.updated_at is 'When the API says the record last changed (UTC); null where it sends none.';
comment on column core.{stream}.deleted_at is 'Null for a live row; otherwise the server time at which the deletion was established (a tombstone).';
comment on column core.{stream}.deletion_evidence is 'How the deletion was established: single GET (404), second walk, or moved to another account; null for a live row.';
comment on column core.{stream}.document is 'The record as sent with the included resources its relationships name, as one JSON:API document; capability URLs removed.';
comment on column core.{stream}.content_hash is 'BLAKE2b-128 of the document; where it is equal nothing is rewritten, and where it is not the content decides: without links, meta and the order of members and of linkage.';
comment on column core.{stream}.fetched_at is 'Date header of the page that brought this version (server time, UTC).';
comment on column core.{stream}.slice_id is 'Slice that last wrote the row: ops.slices.slice_id.';
