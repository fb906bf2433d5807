-- severity: block
-- stream: bookings
-- says: A participant, bookable resource or answer of a booking stands more than once, so sums are wrong: publishing is held back; keep the last published file and report it as a fault of the merge.
select 'core.booking_customers' as table_name, concat_ws(' / ', account_id, booking_id, customer_booking_id) as key, count(*) as rows_count
from core.booking_customers
group by account_id, booking_id, customer_booking_id
having count(*) > 1 or account_id is null or booking_id is null or customer_booking_id is null
union all
select 'core.booking_resources' as table_name, concat_ws(' / ', account_id, booking_id, resource_id) as key, count(*) as rows_count
from core.booking_resources
group by account_id, booking_id, resource_id
having count(*) > 1 or account_id is null or booking_id is null or resource_id is null
union all
select 'core.booking_answers' as table_name, concat_ws(' / ', account_id, booking_id, customer_booking_id, question_id) as key, count(*) as rows_count
from core.booking_answers
group by account_id, booking_id, customer_booking_id, question_id
having count(*) > 1 or account_id is null or booking_id is null or customer_booking_id is null or question_id is null
