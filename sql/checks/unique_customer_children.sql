-- severity: block
-- stream: customers
-- says: A custom field or tag of a customer stands more than once: publishing is held back; keep the last published file and report it as a fault of the merge.
with doubtful_fields as (
    -- Hashes first, a third of the time: equal keys have equal ones, so no doubled key is left out, and unequal keys that share one are told apart below.
    select hash(account_id, customer_id, field_id) as key_hash
    from core.customer_custom_fields
    group by key_hash
    having count(*) > 1
),
doubtful_tags as (
    select hash(account_id, customer_id, tag) as key_hash
    from core.customer_tags
    group by key_hash
    having count(*) > 1
)
select 'core.customer_custom_fields' as table_name, concat_ws(' / ', account_id, customer_id, field_id) as key, count(*) as rows_count
from core.customer_custom_fields
semi join doubtful_fields on key_hash = hash(account_id, customer_id, field_id)
group by account_id, customer_id, field_id
having count(*) > 1
union all
select 'core.customer_tags' as table_name, concat_ws(' / ', account_id, customer_id, tag) as key, count(*) as rows_count
from core.customer_tags
semi join doubtful_tags on key_hash = hash(account_id, customer_id, tag)
group by account_id, customer_id, tag
having count(*) > 1
