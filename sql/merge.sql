-- The one merge: a batch of typed rows into a stream's table. Names in braces are filled in by resources/warehouse.py from the catalogue.
-- Statements are separated by a line that holds only a semicolon mark, `-- ;`, and each is named in its first line.

-- change: what is to be done with each row. A row is never replaced by an older version, nor by an equal one that was read earlier; a tombstone
-- comes back only through something that was read after it (design 5).
create or replace temp table change as
select
    incoming.*,
    stored.content_hash is not null and stored.deleted_at is null
        and stored.updated_at is not distinct from incoming.updated_at as is_same_version,
    stored.deleted_at is not null as is_back,
    case
        when stored.content_hash is null then 'insert'
        when stored.deleted_at is not null then
            case when incoming.fetched_at < stored.fetched_at then 'stale' else 'update' end
        -- A sweep reads the record itself: what it reads clearly later is how things are, though the API may have set its clock or data back.
        when incoming.updated_at < stored.updated_at then
            case when $is_sweep and incoming.fetched_at > stored.fetched_at + interval 1 hour then 'update' else 'stale' end
        when coalesce(incoming.updated_at > stored.updated_at, false) = false
            and incoming.fetched_at < stored.fetched_at
            and incoming.content_hash <> stored.content_hash then 'stale'
        when incoming.content_hash = stored.content_hash then 'unchanged'
        else 'update'
    end as action
from incoming
left join core.{table} as stored using ({key})
-- ;
-- history: the versions that are about to be replaced
insert into history.records by name
select
    '{stream}' as stream, stored.account_id, stored.{id} as record_id, stored.updated_at, stored.deleted_at, stored.fetched_at,
    stored.content_hash, stored.document, change.fetched_at as superseded_at, change.slice_id as superseded_by_slice_id
from core.{table} as stored
join change using ({key})
where change.action = 'update'
-- ;
-- rows
merge into core.{table} as stored
using (
    select * exclude (action, is_back), null::TIMESTAMPTZ as deleted_at, null::VARCHAR as deletion_evidence
    from change where action in ('insert', 'update')
) as change
on {on_key}
when matched then update set {set_columns}
when not matched then insert ({columns}) values ({change_columns})
