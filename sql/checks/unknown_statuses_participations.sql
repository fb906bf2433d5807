-- severity: warn
-- stream: bookings
-- says: Participants of live bookings carry a status that the contract does not know, or none, and are missing in the attendance counts: add the spelling to statuses.participant in the contract file.
select participants.account_id, participants.status, count(*) as participants_count, min(participants.booking_id) as example_booking_id
from core.booking_customers as participants
semi join (select account_id, booking_id from core.bookings where deleted_at is null) as bookings
    on bookings.account_id = participants.account_id
    and bookings.booking_id = participants.booking_id
where participants.deleted_at is null
    and (participants.status is null or participants.status not in ('none', 'arrived', 'no_show', 'complete', 'cancelled'))
group by participants.account_id, participants.status
