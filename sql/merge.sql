-- The one merge: a batch of typed rows into a stream's table. Names in braces are filled in by resources/merging.py from the catalogue.
-- Statements are separated by a line that holds only a semicolon mark, `-- ;`, and each is named in its first line. Those that have nothing to do are not run.

-- change: what is to be done with each row, without its content. A row is never replaced by an older version, nor by an equal one that was read earlier; a
-- tombstone comes back only through something that was read after it. Equal hashes are equal content; where hashes that differ decide (is_doubtful),
-- the documents have the last word (`documents`, `unchanged`).
create or replace temp table change as
select
    {incoming_key}, incoming.slice_id, incoming.updated_at, incoming.fetched_at, {whole_children}stored.rowid as stored_row,
    stored.content_hash is not null and stored.deleted_at is null
        and stored.updated_at is not distinct from incoming.updated_at as is_same_version,
    stored.deleted_at is not null as is_back,
    coalesce(
        stored.deleted_at is null and incoming.content_hash <> stored.content_hash and (incoming.updated_at < stored.updated_at) is not true, false
    ) as is_doubtful,
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
-- counts: and the earliest change that may have come late (sql/late_arrivals.sql)
select
    slice_id, action, count(*), count(*) filter (where is_same_version), count(*) filter (where is_doubtful),
    min(updated_at) filter (where action in ('insert', 'update') and not is_same_version and not is_back)
from change
group by slice_id, action
-- ;
-- known: the versions that may be replaced, read once: to be compared, and for history
create or replace temp table known as
select
    rowid as stored_row, account_id, {id} as record_id, updated_at, deleted_at, fetched_at, content_hash, document
from core.{table}
where rowid in (select stored_row from change where action = 'update' or is_doubtful)
-- ;
-- documents: of both versions, where hashes that differ do not decide
select change.rowid, change.slice_id, change.action, change.is_same_version, known.document, incoming.document
from change
join (select stored_row, document from known) as known using (stored_row)
join incoming using ({key})
where change.is_doubtful
-- ;
-- unchanged: the rows of `change` whose content is that of the stored version
update change set action = 'unchanged' where rowid in (select unnest(from_json($rows, '["BIGINT"]')))
-- ;
-- history: the versions that are about to be replaced
insert into history.records by name
select
    '{table}' as stream, known.* exclude (stored_row), change.fetched_at as superseded_at, change.slice_id as superseded_by_slice_id
from known
join change using (stored_row)
where change.action = 'update'
-- ;
-- replaced: taken out and put in again, which costs what the change costs; an UPDATE in place would rewrite every column of each row group that it meets
delete from core.{table}
where rowid in (select stored_row from change where action = 'update')
-- ;
-- rows
insert into core.{table} ({columns})
select {columns} from incoming {which}
