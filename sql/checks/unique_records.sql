-- severity: block
-- stream: generic
-- says: A record of {stream} stands more than once in core.{stream}, or without a key, so every count is wrong: publishing is held back; keep the last published file and report it as a fault of the merge.
select account_id, record_id, count(*) as rows_count
from core.{stream}
group by account_id, record_id
having count(*) > 1 or account_id is null or record_id is null
