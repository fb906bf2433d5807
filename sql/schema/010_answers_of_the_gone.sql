-- Answers of participations that their booking lists no more stayed live where another participant's answers had not come: they go with their participation,
-- from the same page on. Later merges see to that (sql/merge_child.sql).
update core.booking_answers as answers
set deleted_at = participations.deleted_at
from core.booking_customers as participations
where answers.deleted_at is null
    and participations.deleted_at is not null
    and participations.account_id = answers.account_id
    and participations.booking_id = answers.booking_id
    and participations.customer_booking_id = answers.customer_booking_id;
