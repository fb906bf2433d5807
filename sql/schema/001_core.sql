-- The merged tables: what the API last said, one row per key, tombstones kept. A column is declared here and nowhere else; its comment is
-- what Dagster, DBeaver and the marts show. No primary keys: on 10 M rows one made loads 8 times slower (docs/decisions.md); uniqueness is a blocking check.
create schema core;

create table core.accounts (
    account_id        VARCHAR not null,
    name              VARCHAR,
    slug              VARCHAR,
    time_zone         VARCHAR,
    currency          VARCHAR,
    created_at        TIMESTAMPTZ,
    updated_at        TIMESTAMPTZ,
    deleted_at        TIMESTAMPTZ,
    deletion_evidence VARCHAR,
    document          JSON,
    content_hash      VARCHAR not null,
    fetched_at        TIMESTAMPTZ not null,
    slice_id          VARCHAR not null
);
comment on table core.accounts is 'One row per Appointedd account that an API client has ever listed. Key: account_id.';
comment on column core.accounts.account_id is 'Account the row belongs to.';
comment on column core.accounts.name is 'Account name.';
comment on column core.accounts.slug is 'Account slug, as in its public addresses.';
comment on column core.accounts.time_zone is 'IANA time zone that the API sent for the account; null if it sends none. The zone in use is in ops.account_time_zones.';
comment on column core.accounts.currency is 'ISO 4217 code that the API sent for the account; null if it sends none.';
comment on column core.accounts.created_at is 'When the API says the record was created (UTC); null where it sends none.';
comment on column core.accounts.updated_at is 'When the API says the record last changed (UTC); null where it sends none.';
comment on column core.accounts.deleted_at is 'Null for a live row; otherwise the server time at which the deletion was established (a tombstone).';
comment on column core.accounts.deletion_evidence is 'How the deletion was established: single GET (404), second walk, or moved to another account; null for a live row.';
comment on column core.accounts.document is 'The record as sent with the included resources its relationships name, as one JSON:API document; capability URLs removed.';
comment on column core.accounts.content_hash is 'BLAKE2b-128 of the document in canonical form, without links, meta and capability URLs; an equal hash is never rewritten.';
comment on column core.accounts.fetched_at is 'Date header of the page that brought this version (server time, UTC).';
comment on column core.accounts.slice_id is 'Slice that last wrote the row: ops.slices.slice_id.';

create table core.customers (
    account_id            VARCHAR not null,
    customer_id           VARCHAR not null,
    first_name            VARCHAR,
    last_name             VARCHAR,
    email                 VARCHAR,
    mobile                VARCHAR,
    phone                 VARCHAR,
    is_marketing_opted_in BOOLEAN,
    created_at            TIMESTAMPTZ,
    updated_at            TIMESTAMPTZ,
    deleted_at            TIMESTAMPTZ,
    deletion_evidence     VARCHAR,
    document              JSON,
    content_hash          VARCHAR not null,
    fetched_at            TIMESTAMPTZ not null,
    slice_id              VARCHAR not null
);
comment on table core.customers is 'One row per customer of an account. Key: account_id, customer_id. The same person in two accounts is two rows.';
comment on column core.customers.account_id is 'Account the row belongs to; first part of every key.';
comment on column core.customers.customer_id is 'Customer id, opaque text.';
comment on column core.customers.first_name is 'First name. Personal data.';
comment on column core.customers.last_name is 'Last name. Personal data.';
comment on column core.customers.email is 'E-mail address; null where the API sends an empty string. Personal data.';
comment on column core.customers.mobile is 'Mobile number as sent; null where empty. Personal data.';
comment on column core.customers.phone is 'Phone number as sent; null where empty. Personal data.';
comment on column core.customers.is_marketing_opted_in is 'Whether the customer consented to marketing.';
comment on column core.customers.created_at is 'When the API says the record was created (UTC); null where it sends none.';
comment on column core.customers.updated_at is 'When the API says the record last changed (UTC); null where it sends none.';
comment on column core.customers.deleted_at is 'Null for a live row; otherwise the server time at which the deletion was established (a tombstone).';
comment on column core.customers.deletion_evidence is 'How the deletion was established: single GET (404), second walk, or moved to another account; null for a live row.';
comment on column core.customers.document is 'The record as sent with the included resources its relationships name, as one JSON:API document; capability URLs removed.';
comment on column core.customers.content_hash is 'BLAKE2b-128 of the document in canonical form, without links, meta and capability URLs; an equal hash is never rewritten.';
comment on column core.customers.fetched_at is 'Date header of the page that brought this version (server time, UTC).';
comment on column core.customers.slice_id is 'Slice that last wrote the row: ops.slices.slice_id.';

create table core.customer_custom_fields (
    account_id    VARCHAR not null,
    customer_id   VARCHAR not null,
    field_id      VARCHAR not null,
    value_kind    VARCHAR,
    value_raw     JSON,
    value_text    VARCHAR,
    value_number  DECIMAL(38,9),
    is_value_true BOOLEAN,
    value_on      DATE,
    deleted_at    TIMESTAMPTZ
);
comment on table core.customer_custom_fields is 'One row per custom field that a customer record carries. Key: account_id, customer_id, field_id.';
comment on column core.customer_custom_fields.account_id is 'Account the row belongs to; first part of every key.';
comment on column core.customer_custom_fields.customer_id is 'Customer the field belongs to.';
comment on column core.customer_custom_fields.field_id is 'Id (slug) of the custom field, such as date_of_birth.';
comment on column core.customer_custom_fields.value_kind is 'Form in which the value came: text, number, boolean, empty (null or an empty string) or other (array, object).';
comment on column core.customer_custom_fields.value_raw is 'The value exactly as sent. Personal data.';
comment on column core.customer_custom_fields.value_text is 'The value where it is text and not empty. Personal data.';
comment on column core.customer_custom_fields.value_number is 'The value where it is a number.';
comment on column core.customer_custom_fields.is_value_true is 'The value where it is a boolean.';
comment on column core.customer_custom_fields.value_on is 'The value as a calendar day, for fields the contract declares as dates: epoch seconds converted in the account time zone; null where no zone is known. Personal data.';
comment on column core.customer_custom_fields.deleted_at is 'Null while the parent lists this row; otherwise the server time of the page that first came without it.';

create table core.customer_tags (
    account_id  VARCHAR not null,
    customer_id VARCHAR not null,
    tag         VARCHAR not null,
    deleted_at  TIMESTAMPTZ
);
comment on table core.customer_tags is 'One row per tag on a customer. Key: account_id, customer_id, tag.';
comment on column core.customer_tags.account_id is 'Account the row belongs to; first part of every key.';
comment on column core.customer_tags.customer_id is 'Customer who carries the tag.';
comment on column core.customer_tags.tag is 'The tag as sent.';
comment on column core.customer_tags.deleted_at is 'Null while the parent lists this row; otherwise the server time of the page that first came without it.';

create table core.bookings (
    account_id              VARCHAR not null,
    booking_id              VARCHAR not null,
    service_id              VARCHAR,
    service_name            VARCHAR,
    event_id                VARCHAR,
    start_at                TIMESTAMPTZ,
    end_at                  TIMESTAMPTZ,
    buffer_start_at         TIMESTAMPTZ,
    buffer_end_at           TIMESTAMPTZ,
    time_zone               VARCHAR,
    status                  VARCHAR,
    status_raw              VARCHAR,
    booking_type            VARCHAR,
    price                   DECIMAL(18,4),
    total_spaces_count      INTEGER,
    max_occupancy_count     INTEGER,
    is_online_group_allowed BOOLEAN,
    created_source          VARCHAR,
    last_modified_source    VARCHAR,
    created_at              TIMESTAMPTZ,
    updated_at              TIMESTAMPTZ,
    deleted_at              TIMESTAMPTZ,
    deletion_evidence       VARCHAR,
    document                JSON,
    content_hash            VARCHAR not null,
    fetched_at              TIMESTAMPTZ not null,
    slice_id                VARCHAR not null
);
comment on table core.bookings is 'One row per booking: a slot in the diary, whoever is on it. Key: account_id, booking_id. A cancelled booking is a live row with status cancelled.';
comment on column core.bookings.account_id is 'Account the row belongs to; first part of every key.';
comment on column core.bookings.booking_id is 'Booking id, opaque text.';
comment on column core.bookings.service_id is 'Booked service.';
comment on column core.bookings.service_name is 'Name of the booked service, where the API sends it.';
comment on column core.bookings.event_id is 'Event the booking belongs to, if any: core.events.event_id.';
comment on column core.bookings.start_at is 'Start without buffers (UTC).';
comment on column core.bookings.end_at is 'End without buffers (UTC).';
comment on column core.bookings.buffer_start_at is 'Start including the buffer before (UTC).';
comment on column core.bookings.buffer_end_at is 'End including the buffer after (UTC).';
comment on column core.bookings.time_zone is 'IANA time zone of the booking itself, where the API sends one.';
comment on column core.bookings.status is 'Booking status in the words of the contract: confirmed, cancelled; an unknown status stands as sent.';
comment on column core.bookings.status_raw is 'Booking status exactly as sent.';
comment on column core.bookings.booking_type is 'Kind of booking as sent, such as Hourly; an open set.';
comment on column core.bookings.price is 'Booking price in major units; the API sends no currency.';
comment on column core.bookings.total_spaces_count is 'Places taken on the booking in all.';
comment on column core.bookings.max_occupancy_count is 'Capacity in places.';
comment on column core.bookings.is_online_group_allowed is 'Whether others may join the group booking online.';
comment on column core.bookings.created_source is 'Channel that created the booking, such as appointment_screen (back office); an open set.';
comment on column core.bookings.last_modified_source is 'Channel of the last change; an open set.';
comment on column core.bookings.created_at is 'When the API says the record was created (UTC); null where it sends none.';
comment on column core.bookings.updated_at is 'When the API says the record last changed (UTC); null where it sends none.';
comment on column core.bookings.deleted_at is 'Null for a live row; otherwise the server time at which the deletion was established (a tombstone).';
comment on column core.bookings.deletion_evidence is 'How the deletion was established: single GET (404), second walk, or moved to another account; null for a live row.';
comment on column core.bookings.document is 'The record as sent with the included resources its relationships name, as one JSON:API document; capability URLs removed.';
comment on column core.bookings.content_hash is 'BLAKE2b-128 of the document in canonical form, without links, meta and capability URLs; an equal hash is never rewritten.';
comment on column core.bookings.fetched_at is 'Date header of the page that brought this version (server time, UTC).';
comment on column core.bookings.slice_id is 'Slice that last wrote the row: ops.slices.slice_id.';

create table core.booking_customers (
    account_id          VARCHAR not null,
    booking_id          VARCHAR not null,
    customer_booking_id VARCHAR not null,
    customer_id         VARCHAR,
    status              VARCHAR,
    status_raw          VARCHAR,
    spaces_count        INTEGER,
    total_spaces_count  INTEGER,
    total_price         DECIMAL(18,4),
    is_paid             BOOLEAN,
    paid_online_amount  DECIMAL(18,4),
    booking_source      VARCHAR,
    time_zone           VARCHAR,
    locale              VARCHAR,
    notes               VARCHAR,
    price_points        JSON,
    created_at          TIMESTAMPTZ,
    updated_at          TIMESTAMPTZ,
    deleted_at          TIMESTAMPTZ
);
comment on table core.booking_customers is 'One row per customer on a booking (participation), with a status and price of its own. Key: account_id, booking_id, customer_booking_id.';
comment on column core.booking_customers.account_id is 'Account the row belongs to; first part of every key.';
comment on column core.booking_customers.booking_id is 'Booking taken part in.';
comment on column core.booking_customers.customer_booking_id is 'Participation id as sent; where the API sends none: customer:<customer id>:<number among equals on the booking>.';
comment on column core.booking_customers.customer_id is 'Customer who takes part; may name a customer who was deleted.';
comment on column core.booking_customers.status is 'Participation status in the words of the contract: none, arrived, no_show, complete, cancelled; an unknown status stands as sent.';
comment on column core.booking_customers.status_raw is 'Participation status exactly as sent.';
comment on column core.booking_customers.spaces_count is 'Places taken by this customer.';
comment on column core.booking_customers.total_spaces_count is 'Places in all as the API counts them for this customer.';
comment on column core.booking_customers.total_price is 'Price for this customer in major units; no currency is sent.';
comment on column core.booking_customers.is_paid is 'Whether the API calls the participation paid.';
comment on column core.booking_customers.paid_online_amount is 'Amount paid online in major units (a deposit may be less than the price).';
comment on column core.booking_customers.booking_source is 'Channel through which this customer booked; an open set.';
comment on column core.booking_customers.time_zone is 'IANA time zone of the customer for this booking.';
comment on column core.booking_customers.locale is 'Language of the customer, where sent.';
comment on column core.booking_customers.notes is 'Free text notes; null where empty. Personal data.';
comment on column core.booking_customers.price_points is 'Price points as sent: quantity, price per quantity, spaces per quantity.';
comment on column core.booking_customers.created_at is 'When the API says the participation was created (UTC), often to the second only.';
comment on column core.booking_customers.updated_at is 'When the API says the participation last changed (UTC); null where it sends none.';
comment on column core.booking_customers.deleted_at is 'Null while the parent lists this row; otherwise the server time of the page that first came without it.';

create table core.booking_resources (
    account_id    VARCHAR not null,
    booking_id    VARCHAR not null,
    resource_id   VARCHAR not null,
    resource_name VARCHAR,
    deleted_at    TIMESTAMPTZ
);
comment on table core.booking_resources is 'One row per bookable resource (staff, room) on a booking. Key: account_id, booking_id, resource_id.';
comment on column core.booking_resources.account_id is 'Account the row belongs to; first part of every key.';
comment on column core.booking_resources.booking_id is 'Booking that uses the resource.';
comment on column core.booking_resources.resource_id is 'Bookable resource id.';
comment on column core.booking_resources.resource_name is 'Name of the bookable resource, where the API sends it.';
comment on column core.booking_resources.deleted_at is 'Null while the parent lists this row; otherwise the server time of the page that first came without it.';

create table core.booking_answers (
    account_id          VARCHAR not null,
    booking_id          VARCHAR not null,
    customer_booking_id VARCHAR not null,
    question_id         VARCHAR not null,
    label               VARCHAR,
    answer_kind         VARCHAR,
    answer_text         VARCHAR,
    is_answer_true      BOOLEAN,
    deleted_at          TIMESTAMPTZ
);
comment on table core.booking_answers is 'One row per booking question put to one participant. Key: account_id, booking_id, customer_booking_id, question_id.';
comment on column core.booking_answers.account_id is 'Account the row belongs to; first part of every key.';
comment on column core.booking_answers.booking_id is 'Booking the question belongs to.';
comment on column core.booking_answers.customer_booking_id is 'Participation that answered.';
comment on column core.booking_answers.question_id is 'Question id as sent; where the API sends none: label:<label>:<number among equals>.';
comment on column core.booking_answers.label is 'The question as shown.';
comment on column core.booking_answers.answer_kind is 'text, boolean, number, empty (null or an empty string: not answered) or other.';
comment on column core.booking_answers.answer_text is 'The answer where it is text (or a number, as written); null where not answered. Personal data.';
comment on column core.booking_answers.is_answer_true is 'The answer where it is a boolean: false is an answer.';
comment on column core.booking_answers.deleted_at is 'Null while the parent lists this row; otherwise the server time of the page that first came without it.';

create table core.events (
    account_id         VARCHAR not null,
    event_id           VARCHAR not null,
    service_id         VARCHAR,
    title              VARCHAR,
    start_at           TIMESTAMPTZ,
    end_at             TIMESTAMPTZ,
    time_zone          VARCHAR,
    status             VARCHAR,
    status_raw         VARCHAR,
    capacity_count     INTEGER,
    spaces_taken_count INTEGER,
    created_at         TIMESTAMPTZ,
    updated_at         TIMESTAMPTZ,
    deleted_at         TIMESTAMPTZ,
    deletion_evidence  VARCHAR,
    document           JSON,
    content_hash       VARCHAR not null,
    fetched_at         TIMESTAMPTZ not null,
    slice_id           VARCHAR not null
);
comment on table core.events is 'One row per event: by working assumption a scheduled group session that people book into (evidence 1.3). Key: account_id, event_id.';
comment on column core.events.account_id is 'Account the row belongs to; first part of every key.';
comment on column core.events.event_id is 'Event id, opaque text.';
comment on column core.events.service_id is 'Service the event offers.';
comment on column core.events.title is 'Title.';
comment on column core.events.start_at is 'Start (UTC).';
comment on column core.events.end_at is 'End (UTC).';
comment on column core.events.time_zone is 'IANA time zone of the event, where the API sends one.';
comment on column core.events.status is 'Status in the words of the contract: confirmed, cancelled; an unknown status stands as sent.';
comment on column core.events.status_raw is 'Status exactly as sent.';
comment on column core.events.capacity_count is 'Places on offer.';
comment on column core.events.spaces_taken_count is 'Places taken.';
comment on column core.events.created_at is 'When the API says the record was created (UTC); null where it sends none.';
comment on column core.events.updated_at is 'When the API says the record last changed (UTC); null where it sends none.';
comment on column core.events.deleted_at is 'Null for a live row; otherwise the server time at which the deletion was established (a tombstone).';
comment on column core.events.deletion_evidence is 'How the deletion was established: single GET (404), second walk, or moved to another account; null for a live row.';
comment on column core.events.document is 'The record as sent with the included resources its relationships name, as one JSON:API document; capability URLs removed.';
comment on column core.events.content_hash is 'BLAKE2b-128 of the document in canonical form, without links, meta and capability URLs; an equal hash is never rewritten.';
comment on column core.events.fetched_at is 'Date header of the page that brought this version (server time, UTC).';
comment on column core.events.slice_id is 'Slice that last wrote the row: ops.slices.slice_id.';
