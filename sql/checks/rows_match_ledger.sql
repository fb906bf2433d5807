-- severity: block
-- stream: accounts, customers, bookings, events, generic
-- says: core.{stream} does not hold as many rows as the ledger ops.slices says were inserted: rows were lost or written past the ledger; restore the working file from a backup, or delete it and load afresh.
with stored as (
    select count(*) as stored_count
    from core.{stream}
),
ledger as (
    select coalesce(cast(sum(inserted_count) as bigint), 0) as ledger_count
    from ops.slices
    where stream = '{stream}'
)
select '{stream}' as stream, stored.stored_count, ledger.ledger_count
from stored
cross join ledger
where stored.stored_count <> ledger.ledger_count
