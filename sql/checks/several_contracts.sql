-- severity: warn
-- stream: accounts, customers, bookings, events, generic
-- says: Rows of {stream} were shaped by other versions of the contract or of this product, so columns of older rows may be empty or wrong though the names are right now: run appointedd-warehouse renormalise.
select stream, count(*) as contracts_count, max(first_used_at) as newest_used_at
from ops.shapes
where stream = '{stream}'
    -- Nobody reads a stream that the contract has switched off.
    and coalesce(list_contains((select arg_max(streams, number) from ops.runs), '{stream}'), true)
group by stream
having count(*) > 1 or bool_or(contract_hash = 'unknown')
