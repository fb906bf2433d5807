-- severity: warn
-- stream: bookings
-- says: A column that bookings can hardly do without is empty in every row, so its name in the contract file is wrong or the API sends none: run appointedd-warehouse connect, or correct streams.bookings.columns and run appointedd-warehouse renormalise.
with filled as (
    select count(*) as rows_count, count(start_at) as start_at, count(end_at) as end_at, count(status) as status, count(updated_at) as updated_at
    from core.bookings
    where deleted_at is null
)
select column_name, rows_count
from (unpivot filled on start_at, end_at, status, updated_at into name column_name value filled_count)
where filled_count = 0
    and rows_count >= 20
