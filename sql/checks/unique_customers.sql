-- severity: block
-- stream: customers
-- says: The customer stands more than once in core.customers, or without a key, so every count is wrong: publishing is held back; keep the last published file and report it as a fault of the merge.
with doubtful as (
    -- Hashes first, a third of the time: equal keys have equal ones, so no doubled key is left out, and unequal keys that share one are told apart below.
    select hash(account_id, customer_id) as key_hash
    from core.customers
    group by key_hash
    having count(*) > 1 or bool_or(account_id is null or customer_id is null)
)
select account_id, customer_id, count(*) as rows_count
from core.customers
semi join doubtful on key_hash = hash(account_id, customer_id)
group by account_id, customer_id
having count(*) > 1 or account_id is null or customer_id is null
