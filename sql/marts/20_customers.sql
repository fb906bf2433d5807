-- Grain: one row per live customer of an account; the same person in two accounts is two rows. Key: account_id, customer_id. Holds personal data.
-- Units: money in major units of the account's currency, which the API does not send: never add amounts of different accounts.
-- Time zone: *_at is UTC; *_on is in the account's reporting_time_zone.
-- A participation counts as cancelled when it is cancelled itself or its booking is. Removed participations and deleted bookings count nowhere.
create or replace view marts.customers as
with participations as (
    select
        participants.account_id,
        participants.customer_id,
        participants.status,
        participants.total_price,
        bookings.start_at,
        bookings.status is not distinct from 'cancelled' or participants.status is not distinct from 'cancelled' as is_cancelled
    from core.booking_customers as participants
    join core.bookings as bookings
        on bookings.account_id = participants.account_id
        and bookings.booking_id = participants.booking_id
    where participants.deleted_at is null
        and bookings.deleted_at is null
),
booked as (
    select
        account_id,
        customer_id,
        count(*) filter (where not is_cancelled) as bookings_count,
        count(*) filter (where is_cancelled) as cancelled_bookings_count,
        count(*) filter (where not is_cancelled and status = 'no_show') as no_show_count,
        min(start_at) filter (where not is_cancelled) as first_start_at,
        max(start_at) filter (where not is_cancelled) as last_start_at,
        sum(total_price) filter (where not is_cancelled) as booked_amount
    from participations
    group by account_id, customer_id
),
tagged as (
    select account_id, customer_id, list(tag order by tag) as tags
    from core.customer_tags
    where deleted_at is null
    group by account_id, customer_id
),
placed as (
    select
        customers.account_id,
        accounts.account_name,
        accounts.account_slug,
        customers.customer_id,
        customers.first_name,
        customers.last_name,
        customers.email,
        customers.mobile,
        customers.phone,
        customers.is_marketing_opted_in,
        coalesce(tagged.tags, cast([] as varchar[])) as tags,
        coalesce(booked.bookings_count, 0) as bookings_count,
        coalesce(booked.cancelled_bookings_count, 0) as cancelled_bookings_count,
        coalesce(booked.no_show_count, 0) as no_show_count,
        booked.first_start_at,
        booked.last_start_at,
        case when booked.bookings_count > 0 then booked.booked_amount else 0 end as booked_amount,
        coalesce(accounts.reporting_time_zone, 'UTC') as reporting_time_zone,
        coalesce(accounts.is_zone_assumed, true) as is_zone_assumed,
        customers.created_at,
        customers.updated_at
    from core.customers as customers
    left join marts.accounts as accounts using (account_id)
    left join booked
        on booked.account_id = customers.account_id
        and booked.customer_id = customers.customer_id
    left join tagged
        on tagged.account_id = customers.account_id
        and tagged.customer_id = customers.customer_id
    where customers.deleted_at is null
)
select
    placed.account_id,
    placed.account_name,
    placed.account_slug,
    placed.customer_id,
    placed.first_name,
    placed.last_name,
    placed.email,
    placed.mobile,
    placed.phone,
    placed.is_marketing_opted_in,
    placed.tags,
    placed.bookings_count,
    placed.cancelled_bookings_count,
    placed.no_show_count,
    cast(coalesce(
        make_timestamp(epoch_us(placed.first_start_at) + 1000000 * firsts.utc_offset_s),
        timezone(placed.reporting_time_zone, placed.first_start_at)
    ) as date) as first_booking_on,
    cast(coalesce(
        make_timestamp(epoch_us(placed.last_start_at) + 1000000 * lasts.utc_offset_s),
        timezone(placed.reporting_time_zone, placed.last_start_at)
    ) as date) as last_booking_on,
    placed.booked_amount,
    placed.reporting_time_zone,
    placed.is_zone_assumed,
    placed.created_at,
    placed.updated_at
from placed
left join marts.utc_offsets as firsts
    on firsts.account_id = placed.account_id
    and firsts.utc_on = cast(make_timestamp(epoch_us(placed.first_start_at)) as date)
left join marts.utc_offsets as lasts
    on lasts.account_id = placed.account_id
    and lasts.utc_on = cast(make_timestamp(epoch_us(placed.last_start_at)) as date);

comment on view marts.customers is 'One row per live customer of an account; the same person in two accounts is two rows. Key: account_id, customer_id. Personal data. Amounts in major units, no currency known: never add those of different accounts.';
comment on column marts.customers.account_id is 'Account the customer belongs to.';
comment on column marts.customers.account_name is 'Account name as it is now, null where the account was never listed. Two accounts may have the same: group by account_id.';
comment on column marts.customers.account_slug is 'Account slug; null where the account was never listed.';
comment on column marts.customers.customer_id is 'Customer id; unique within the account.';
comment on column marts.customers.first_name is 'First name. Personal data.';
comment on column marts.customers.last_name is 'Last name. Personal data.';
comment on column marts.customers.email is 'E-mail address. Personal data.';
comment on column marts.customers.mobile is 'Mobile number as sent. Personal data.';
comment on column marts.customers.phone is 'Phone number as sent. Personal data.';
comment on column marts.customers.is_marketing_opted_in is 'Whether the customer consented to marketing.';
comment on column marts.customers.tags is 'Tags in alphabetical order; an empty list for none.';
comment on column marts.customers.bookings_count is 'Participations that are not cancelled, past and future; two where the customer stands on one booking twice.';
comment on column marts.customers.cancelled_bookings_count is 'Participations that are cancelled, alone or with their booking.';
comment on column marts.customers.no_show_count is 'Participations that are not cancelled and marked as no-show; can be forgiven, that is lowered, months later.';
comment on column marts.customers.first_booking_on is 'Local day of the first start among the participations that are not cancelled.';
comment on column marts.customers.last_booking_on is 'Local day of the last start among the participations that are not cancelled; may lie in the future.';
comment on column marts.customers.booked_amount is 'Prices of the participations that are not cancelled, in major units, paid or not; null where none is stated. Never add amounts of different accounts.';
comment on column marts.customers.reporting_time_zone is 'IANA time zone of the local days: the account''s.';
comment on column marts.customers.is_zone_assumed is 'Whether that zone is only assumed; then local days may be wrong.';
comment on column marts.customers.created_at is 'When the API says the customer was created (UTC); null where it sends none.';
comment on column marts.customers.updated_at is 'When the API says the customer last changed (UTC); null where it sends none.';
