-- severity: block
-- stream: bookings
-- says: A participant, bookable resource or answer of a booking stands more than once, so sums are wrong: publishing is held back; keep the last published file and report it as a fault of the merge.
with doubtful_customers as (
    -- Hashes first, a third of the time: equal keys have equal ones, so no doubled key is left out, and unequal keys that share one are told apart below.
    select hash(account_id, booking_id, customer_booking_id) as key_hash
    from core.booking_customers
    group by key_hash
    having count(*) > 1
),
doubtful_resources as (
    select hash(account_id, booking_id, resource_id) as key_hash
    from core.booking_resources
    group by key_hash
    having count(*) > 1
),
doubtful_answers as (
    select hash(account_id, booking_id, customer_booking_id, question_id) as key_hash
    from core.booking_answers
    group by key_hash
    having count(*) > 1
)
select 'core.booking_customers' as table_name, concat_ws(' / ', account_id, booking_id, customer_booking_id) as key, count(*) as rows_count
from core.booking_customers
semi join doubtful_customers on key_hash = hash(account_id, booking_id, customer_booking_id)
group by account_id, booking_id, customer_booking_id
having count(*) > 1
union all
select 'core.booking_resources' as table_name, concat_ws(' / ', account_id, booking_id, resource_id) as key, count(*) as rows_count
from core.booking_resources
semi join doubtful_resources on key_hash = hash(account_id, booking_id, resource_id)
group by account_id, booking_id, resource_id
having count(*) > 1
union all
select 'core.booking_answers' as table_name, concat_ws(' / ', account_id, booking_id, customer_booking_id, question_id) as key, count(*) as rows_count
from core.booking_answers
semi join doubtful_answers on key_hash = hash(account_id, booking_id, customer_booking_id, question_id)
group by account_id, booking_id, customer_booking_id, question_id
having count(*) > 1
