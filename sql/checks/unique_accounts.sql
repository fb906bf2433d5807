-- severity: block
-- stream: accounts
-- says: The account stands more than once in core.accounts, or without a key, so every count is wrong: publishing is held back; keep the last published file and report it as a fault of the merge.
select account_id, count(*) as rows_count
from core.accounts
group by account_id
having count(*) > 1 or account_id is null
