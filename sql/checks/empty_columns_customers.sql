-- severity: warn
-- stream: customers
-- says: A column that customers can hardly do without is empty in every row, so its name in the contract file is wrong or the API sends none: run appointedd-warehouse connect, or correct streams.customers.columns and run appointedd-warehouse renormalise.
with filled as (
    select count(*) as rows_count, count(last_name) as last_name, count(email) as email, count(updated_at) as updated_at
    from core.customers
    where deleted_at is null
)
select column_name, rows_count
from (unpivot filled on last_name, email, updated_at into name column_name value filled_count)
where filled_count = 0
    and rows_count >= 20
