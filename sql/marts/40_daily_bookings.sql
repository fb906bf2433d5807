-- Grain: one row per account, local day and date_basis. Key: account_id, day_on, date_basis. Every live booking stands once under each basis: always choose one.
-- Units: minutes; money in major units of the account's currency, which the API does not send: per account only, never added up across accounts.
-- Time zone: day_on is a day in the account's reporting_time_zone. A booking without the time in question is counted on a null day, not dropped.
create or replace view marts.daily_bookings as
with dated as (
    select
        bookings.*,
        bases.date_basis,
        case bases.date_basis when 'created_on' then bookings.created_on else bookings.start_on end as day_on
    from marts.bookings as bookings
    cross join (values ('created_on'), ('occurring_on')) as bases (date_basis)
)
select
    account_id,
    account_name,
    day_on,
    date_basis,
    any_value(reporting_time_zone) as reporting_time_zone,
    any_value(is_zone_assumed) as is_zone_assumed,
    count(*) as bookings_count,
    count(*) filter (where is_cancelled) as cancelled_count,
    count(*) filter (where is_cancelled) / count(*) as cancellation_ratio,
    count(*) filter (where not is_cancelled) as live_bookings_count,
    cast(sum(case when is_cancelled then 0 else participants_count end) as bigint) as participants_count,
    cast(sum(case when is_cancelled then 0 else no_show_count end) as bigint) as no_show_count,
    cast(sum(case when is_past and not is_cancelled then participants_count else 0 end) as bigint) as past_participants_count,
    cast(sum(case when is_past and not is_cancelled then unmarked_count else 0 end) as bigint) as unmarked_past_count,
    cast(case when bool_and(is_cancelled) then 0 else sum(duration_minutes) filter (where not is_cancelled) end as bigint) as booked_minutes,
    case when bool_and(is_cancelled) then 0 else sum(price) filter (where not is_cancelled) end as booked_amount,
    count(*) filter (where is_internal) as internal_count,
    count(*) filter (where not is_internal) as external_count
from dated
-- The name too, though it follows from the id: a filter on it reaches the bookings only so.
group by account_id, account_name, day_on, date_basis;

comment on view marts.daily_bookings is 'One row per account, local day and date_basis. Every live booking stands once under each basis: always choose one. A day without bookings has no row. Amounts per account only, never added up across accounts: no currency is known.';
comment on column marts.daily_bookings.account_id is 'Account.';
comment on column marts.daily_bookings.account_name is 'Account name as it is now, null where the account was never listed. Two accounts may have the same: group by account_id.';
comment on column marts.daily_bookings.day_on is 'Local day in the account''s zone; null for bookings without the time in question.';
comment on column marts.daily_bookings.date_basis is 'created_on: bookings made that day; occurring_on: bookings that start that day. Filter on one of them, or everything counts twice.';
comment on column marts.daily_bookings.reporting_time_zone is 'IANA time zone of day_on: the account''s.';
comment on column marts.daily_bookings.is_zone_assumed is 'Whether that zone is only assumed; then days may be wrong.';
comment on column marts.daily_bookings.bookings_count is 'Bookings, cancelled ones included, unlike the columns of this name in marts.customers and marts.events; live_bookings_count is without them.';
comment on column marts.daily_bookings.cancelled_count is 'Bookings that are cancelled now, whenever that happened.';
comment on column marts.daily_bookings.cancellation_ratio is 'cancelled_count / bookings_count. For several days divide the sums; never average the ratios.';
comment on column marts.daily_bookings.live_bookings_count is 'Bookings that are not cancelled: bookings_count less cancelled_count.';
comment on column marts.daily_bookings.participants_count is 'Customers on the bookings that are not cancelled, without those who cancelled.';
comment on column marts.daily_bookings.no_show_count is 'Participants of bookings that are not cancelled who are marked as no-show.';
comment on column marts.daily_bookings.past_participants_count is 'Of participants_count, those whose booking had ended when the data was read.';
comment on column marts.daily_bookings.unmarked_past_count is 'Of past_participants_count, those whom nobody marked: the larger the share, the less no_show_count is worth.';
comment on column marts.daily_bookings.booked_minutes is 'Minutes without buffers of the bookings that are not cancelled; null where none has times.';
comment on column marts.daily_bookings.booked_amount is 'Prices of the bookings that are not cancelled, in major units of the account; null where none is stated. Never add amounts of different accounts.';
comment on column marts.daily_bookings.internal_count is 'Bookings made by the team (created_source appointment_screen, INFERRED), cancelled ones included.';
comment on column marts.daily_bookings.external_count is 'Bookings made through any other channel, cancelled ones included; those without a source are in neither.';
