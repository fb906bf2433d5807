-- The one merge of a child table, for the parents that `change` (sql/merge.sql) inserts or updates. Parents that are new have no stored children.

-- change: what is to be done with each child of an updated parent. What a list that came whole no longer names is gone; where only the linkage came
-- (is_partial) the stored values stay. Where a child's rows stand in several lists (answers: one for each participation), each list counts by itself.
create or replace temp table child_change as
with known as (
    select stored.*, stored.rowid as stored_row, {is_whole} as is_whole, change.fetched_at as read_at
    from core.{table} as stored
    join change using ({parent_key})
    where change.action = 'update'
),
came as (
    select *, true as is_there
    from incoming_child
    semi join (select {parent_key} from change where action = 'update') using ({parent_key})
)
select
    {child_key}, known.stored_row, case when came.is_there is null then known.read_at end as gone_at,
    case
        when came.is_there is null then 'mark'
        when known.stored_row is null then 'insert'
        when came.is_partial then 'mark'
        else 'replace'
    end as action
from known
full join came using ({child_key})
where case
        when came.is_there is null then known.is_whole and known.deleted_at is null
        when known.stored_row is null or known.deleted_at is not null then true
        else came.is_partial is not true and ({is_different})
    end
-- ;
-- counts
select action, count(*) from child_change group by action
-- ;
-- marks: gone, or back with the values that are stored
update core.{table} as stored
set deleted_at = child_change.gone_at
from child_change
where stored.rowid = child_change.stored_row and child_change.action = 'mark'
-- ;
-- replaced: see sql/merge.sql
delete from core.{table}
where rowid in (select stored_row from child_change where action = 'replace')
-- ;
-- rows
insert into core.{table} ({columns})
select {columns} from incoming_child
semi join (select {child_key} from child_change where action in ('insert', 'replace')) using ({child_key})
-- ;
-- rows of new parents
insert into core.{table} ({columns})
select {columns} from incoming_child {which}
