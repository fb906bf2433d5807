-- severity: block
-- stream: customers
-- says: The customer stands more than once in core.customers, or without a key, so every count is wrong: publishing is held back; keep the last published file and report it as a fault of the merge.
select account_id, customer_id, count(*) as rows_count
from core.customers
group by account_id, customer_id
having count(*) > 1 or account_id is null or customer_id is null
