-- Rows whose absence a second look confirmed (docs/guarantees.md, 7) become tombstones, their children with them. `gone`: key columns, evidence, at.

-- history
insert into history.records by name
select
    '{table}' as stream, stored.account_id, stored.{id} as record_id, stored.updated_at, stored.deleted_at, stored.fetched_at,
    stored.content_hash, stored.document, gone.at as superseded_at, $slice_id as superseded_by_slice_id
from core.{table} as stored
join gone using ({key})
where stored.deleted_at is null
-- ;
-- rows
update core.{table} as stored
set deleted_at = gone.at, deletion_evidence = gone.evidence, fetched_at = gone.at, slice_id = $slice_id
from gone
where {on_gone} and stored.deleted_at is null
