-- severity: block
-- stream: customers
-- says: A custom field or tag belongs to a customer that the warehouse does not have, so joins lose it: publishing is held back; keep the last published file and report it as a fault of the merge.
select 'core.customer_custom_fields' as table_name, account_id, customer_id, count(*) as rows_count
from core.customer_custom_fields
anti join core.customers using (account_id, customer_id)
group by account_id, customer_id
union all
select 'core.customer_tags' as table_name, account_id, customer_id, count(*) as rows_count
from core.customer_tags
anti join core.customers using (account_id, customer_id)
group by account_id, customer_id
