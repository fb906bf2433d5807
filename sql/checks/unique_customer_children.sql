-- severity: block
-- stream: customers
-- says: A custom field or tag of a customer stands more than once: publishing is held back; keep the last published file and report it as a fault of the merge.
select 'core.customer_custom_fields' as table_name, concat_ws(' / ', account_id, customer_id, field_id) as key, count(*) as rows_count
from core.customer_custom_fields
group by account_id, customer_id, field_id
having count(*) > 1 or account_id is null or customer_id is null or field_id is null
union all
select 'core.customer_tags' as table_name, concat_ws(' / ', account_id, customer_id, tag) as key, count(*) as rows_count
from core.customer_tags
group by account_id, customer_id, tag
having count(*) > 1 or account_id is null or customer_id is null or tag is null
