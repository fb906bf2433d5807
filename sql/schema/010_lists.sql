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

comment on column core.customer_custom_fields.value_kind is 'Form in which the value came: text, number, boolean, empty (null or an empty string), other (array, object) or missing (the field came without a value).';
comment on column core.customer_custom_fields.value_raw is 'The value exactly as sent, JSON null too; null where the field came without a value. Personal data.';
comment on column core.booking_answers.answer_kind is 'text, boolean, number, empty (null or an empty string: not answered), other, or missing (the question came without a value).';
comment on column core.customer_custom_fields.value_on is 'The value as a calendar day, for fields the contract declares as dates: epoch seconds converted in the account time zone, a plain day, or an instant at midnight in UTC or in that zone; null where it is none of these, or the zone is needed and not known. Personal data.';

comment on column core.accounts.content_hash is 'BLAKE2b-128 of the document; where it is equal nothing is rewritten, and where it is not the content decides: without links, meta and the order of members and of linkage.';
comment on column core.customers.content_hash is 'BLAKE2b-128 of the document; where it is equal nothing is rewritten, and where it is not the content decides: without links, meta and the order of members and of linkage.';
comment on column core.bookings.content_hash is 'BLAKE2b-128 of the document; where it is equal nothing is rewritten, and where it is not the content decides: without links, meta and the order of members and of linkage.';
comment on column core.events.content_hash is 'BLAKE2b-128 of the document; where it is equal nothing is rewritten, and where it is not the content decides: without links, meta and the order of members and of linkage.';
