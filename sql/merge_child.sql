-- The one merge of a child table, for the parents that `change` (sql/merge.sql) inserts or updates.

-- gone: rows that a list which came whole no longer names
update core.{table} as stored
set deleted_at = change.fetched_at
from change
where {on_parent}
    and change.action in ('insert', 'update')
    and change.whole_{table}
    and stored.deleted_at is null
    and not exists (select 1 from incoming_child as incoming where {on_key})
-- ;
-- rows: where only the linkage came (is_partial) the stored values stay
merge into core.{table} as stored
using (
    select incoming_child.* from incoming_child
    semi join (select * from change where action in ('insert', 'update')) using ({parent_key})
) as incoming
on {on_key}
when matched and incoming.is_partial then update set deleted_at = null
when matched and (stored.deleted_at is not null or {is_different}) then update set {set_columns}, deleted_at = null
when not matched then insert ({columns}, deleted_at) values ({incoming_columns}, null)
