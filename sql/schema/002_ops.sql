-- Bookkeeping: runs, the ledger, the state, drift, quarantine, evidence; and the versions that were replaced.
create schema if not exists ops;
create schema history;
create schema marts;

create table history.records (
    stream                 VARCHAR not null,
    account_id             VARCHAR not null,
    record_id              VARCHAR not null,
    updated_at             TIMESTAMPTZ,
    deleted_at             TIMESTAMPTZ,
    fetched_at             TIMESTAMPTZ not null,
    content_hash           VARCHAR not null,
    document               JSON,
    superseded_at          TIMESTAMPTZ not null,
    superseded_by_slice_id VARCHAR not null
);
comment on table history.records is 'Versions that a merge or a tombstone replaced, one row per replaced version, for every stream.';
comment on column history.records.stream is 'Stream of the record: accounts, customers, bookings, events.';
comment on column history.records.account_id is 'Account of the record.';
comment on column history.records.record_id is 'Id of the record within its stream.';
comment on column history.records.updated_at is 'updated_at of the replaced version (UTC).';
comment on column history.records.deleted_at is 'deleted_at of the replaced version: set where a tombstone came back to life.';
comment on column history.records.fetched_at is 'Server time at which the replaced version was read (UTC).';
comment on column history.records.content_hash is 'Hash of the replaced version.';
comment on column history.records.document is 'The replaced version as sent. Personal data.';
comment on column history.records.superseded_at is 'Server time at which the version that replaced it was read (UTC).';
comment on column history.records.superseded_by_slice_id is 'Slice that replaced it: ops.slices.slice_id.';

create table ops.runs (
    run_id          VARCHAR not null,
    kind            VARCHAR not null,
    started_by      VARCHAR not null,
    product_version VARCHAR not null,
    started_at      TIMESTAMPTZ not null,
    ended_at        TIMESTAMPTZ,
    status          VARCHAR not null,
    problems        VARCHAR[] not null,
    warnings        VARCHAR[] not null
);
comment on table ops.runs is 'One row per run of the sync, from the command line or from Dagster. Key: run_id.';
comment on column ops.runs.run_id is 'Id of the run; in Dagster its run id.';
comment on column ops.runs.kind is 'nightly, sweep, backfill or renormalise.';
comment on column ops.runs.started_by is 'cli or dagster.';
comment on column ops.runs.product_version is 'Version of appointedd-warehouse.';
comment on column ops.runs.started_at is 'Start by the local clock (UTC); for people, never for completeness.';
comment on column ops.runs.ended_at is 'End by the local clock (UTC); null while running, or if the run was killed.';
comment on column ops.runs.status is 'running, green (complete) or red (an account, page or row may be missing).';
comment on column ops.runs.problems is 'Sentences that made the run red.';
comment on column ops.runs.warnings is 'Sentences that did not.';

create table ops.slices (
    slice_id          VARCHAR not null,
    part_number       INTEGER not null,
    is_last_part      BOOLEAN not null,
    run_id            VARCHAR not null,
    stream            VARCHAR not null,
    api_client        VARCHAR not null,
    kind              VARCHAR not null,
    account_ids       VARCHAR[] not null,
    since             TIMESTAMPTZ,
    until             TIMESTAMPTZ not null,
    pages_count       INTEGER not null,
    read_count        BIGINT not null,
    inserted_count    BIGINT not null,
    updated_count     BIGINT not null,
    unchanged_count   BIGINT not null,
    stale_count       BIGINT not null,
    duplicate_count   BIGINT not null,
    quarantined_count BIGINT not null,
    tombstoned_count  BIGINT not null,
    silent_count      BIGINT not null,
    fetched_at        TIMESTAMPTZ not null,
    committed_at      TIMESTAMPTZ not null
);
comment on table ops.slices is 'The ledger: one row per committed part of a slice, written in the transaction that wrote its rows. Key: slice_id, part_number.';
comment on column ops.slices.slice_id is 'Slice: what one transaction commits, or one long walk in several parts.';
comment on column ops.slices.part_number is 'Number of the part, from 1.';
comment on column ops.slices.is_last_part is 'Whether the slice ended with this part; only then has it a window.';
comment on column ops.slices.run_id is 'Run that committed it: ops.runs.run_id.';
comment on column ops.slices.stream is 'Stream that was read.';
comment on column ops.slices.api_client is 'Name of the API client that read it.';
comment on column ops.slices.kind is 'nightly, sweep or backfill.';
comment on column ops.slices.account_ids is 'Accounts whose state the slice moves: those its API client listed before its first page.';
comment on column ops.slices.since is 'Lower end of the window of change time, included; null: open.';
comment on column ops.slices.until is 'Upper end of the window, not included.';
comment on column ops.slices.pages_count is 'Pages read for the part.';
comment on column ops.slices.read_count is 'Records read.';
comment on column ops.slices.inserted_count is 'Rows new in the stream table.';
comment on column ops.slices.updated_count is 'Rows replaced by a newer version.';
comment on column ops.slices.unchanged_count is 'Rows whose content hash was equal; not written.';
comment on column ops.slices.stale_count is 'Records older than the row that is stored; not written.';
comment on column ops.slices.duplicate_count is 'Records that another of the same key in the part stood for.';
comment on column ops.slices.quarantined_count is 'Records without a usable key: ops.quarantine.';
comment on column ops.slices.tombstoned_count is 'Rows that became tombstones.';
comment on column ops.slices.silent_count is 'Rows whose content changed under an equal updated_at.';
comment on column ops.slices.fetched_at is 'Server time of the last page of the part (UTC).';
comment on column ops.slices.committed_at is 'Commit by the local clock (UTC).';

create table ops.windows (
    stream     VARCHAR not null,
    account_id VARCHAR not null,
    since      TIMESTAMPTZ,
    until      TIMESTAMPTZ not null,
    kind       VARCHAR not null,
    slice_id   VARCHAR not null,
    run_id     VARCHAR not null
);
comment on table ops.windows is 'The state: one row per account and committed slice. What is complete is derived from it (ops.watermarks) and stored nowhere else.';
comment on column ops.windows.stream is 'Stream that was read.';
comment on column ops.windows.account_id is 'Account whose state the window moves.';
comment on column ops.windows.since is 'Lower end of change time, included; null: open, the whole history.';
comment on column ops.windows.until is 'Upper end of change time, not included; server time, never the local clock.';
comment on column ops.windows.kind is 'nightly, sweep or backfill.';
comment on column ops.windows.slice_id is 'Slice that committed it.';
comment on column ops.windows.run_id is 'Run that committed it.';

create table ops.drift (
    stream            VARCHAR not null,
    kind              VARCHAR not null,
    path              VARCHAR not null,
    detail            VARCHAR not null,
    first_seen_at     TIMESTAMPTZ not null,
    last_seen_at      TIMESTAMPTZ not null,
    seen_count        BIGINT not null,
    example_record_id VARCHAR
);
comment on table ops.drift is 'What arrived otherwise than the contract says, one row per kind, stream and path. No personal values. Key: stream, kind, path, detail.';
comment on column ops.drift.stream is 'Stream of the record.';
comment on column ops.drift.kind is 'unknown_member, bad_value, unknown_status or dropped_ability.';
comment on column ops.drift.path is 'Place in the record, as a dotted path.';
comment on column ops.drift.detail is 'Reason, or the unknown status; never a personal value.';
comment on column ops.drift.first_seen_at is 'Server time of the first sight (UTC).';
comment on column ops.drift.last_seen_at is 'Server time of the last sight (UTC).';
comment on column ops.drift.seen_count is 'How often it was seen.';
comment on column ops.drift.example_record_id is 'Id of a record that shows it.';

create table ops.quarantine (
    slice_id    VARCHAR not null,
    part_number INTEGER not null,
    position    INTEGER not null,
    stream      VARCHAR not null,
    reason      VARCHAR not null,
    record      VARCHAR not null,
    fetched_at  TIMESTAMPTZ not null
);
comment on table ops.quarantine is 'Records that could not become a row: no usable id, a broken envelope, an unknown type. Kept whole. Key: slice_id, part_number, position.';
comment on column ops.quarantine.slice_id is 'Slice that read it.';
comment on column ops.quarantine.part_number is 'Part of the slice.';
comment on column ops.quarantine.position is 'Number within the part.';
comment on column ops.quarantine.stream is 'Stream of the list it came in.';
comment on column ops.quarantine.reason is 'Why it is here.';
comment on column ops.quarantine.record is 'The record as sent, capability URLs removed. Personal data.';
comment on column ops.quarantine.fetched_at is 'Server time of its page (UTC).';

create table ops.reconciliations (
    slice_id       VARCHAR not null,
    run_id         VARCHAR not null,
    stream         VARCHAR not null,
    api_client     VARCHAR not null,
    first_total    BIGINT,
    last_total     BIGINT,
    distinct_count BIGINT not null,
    walks_count    INTEGER not null,
    verdict        VARCHAR not null
);
comment on table ops.reconciliations is 'Evidence of completeness: one row per walk whose server gave a total, or that was walked again to prove its end.';
comment on column ops.reconciliations.slice_id is 'Slice that was walked.';
comment on column ops.reconciliations.run_id is 'Run.';
comment on column ops.reconciliations.stream is 'Stream.';
comment on column ops.reconciliations.api_client is 'API client.';
comment on column ops.reconciliations.first_total is 'Total that the first page gave; null if none.';
comment on column ops.reconciliations.last_total is 'Total that the last page gave; null if none.';
comment on column ops.reconciliations.distinct_count is 'Distinct keys read.';
comment on column ops.reconciliations.walks_count is 'How often the list was walked.';
comment on column ops.reconciliations.verdict is 'settled (proved equal), unsettled (totals moved while it was read) or different (missing rows, confirmed by a second walk).';

create table ops.account_time_zones (
    account_id          VARCHAR not null,
    time_zone           VARCHAR,
    source              VARCHAR not null,
    reporting_time_zone VARCHAR not null,
    is_zone_assumed     BOOLEAN not null
);
comment on table ops.account_time_zones is 'The time zone in use for each account, as of the last run. Key: account_id.';
comment on column ops.account_time_zones.account_id is 'Account.';
comment on column ops.account_time_zones.time_zone is 'IANA time zone; null where neither the setting nor the API gives one.';
comment on column ops.account_time_zones.source is 'setting (SYNC_ACCOUNT_TIME_ZONES), api, or none.';
comment on column ops.account_time_zones.reporting_time_zone is 'Zone that local days use: time_zone, or SYNC_TIME_ZONE where it is null.';
comment on column ops.account_time_zones.is_zone_assumed is 'Whether reporting_time_zone is SYNC_TIME_ZONE for want of a better one.';

create table ops.publications (
    published_at    TIMESTAMPTZ not null,
    run_id          VARCHAR not null,
    product_version VARCHAR not null
);
comment on table ops.publications is 'One row per published file, written before it was copied, so that a published file tells its own age.';
comment on column ops.publications.published_at is 'Local clock (UTC).';
comment on column ops.publications.run_id is 'Run that published; a person with the command line has one too.';
comment on column ops.publications.product_version is 'Version of appointedd-warehouse.';

-- The watermark of a stream of an account: the upper end of the unbroken chain of windows since the open start. Derived, never stored, so that it cannot
-- run ahead of the rows (docs/guarantees.md, 2). A window starts a break when it begins after everything before it has ended.
create view ops.watermarks as
with chained as (
    select
        stream, account_id, since, until,
        max(until) over (
            partition by stream, account_id order by since nulls first, until desc
            rows between unbounded preceding and 1 preceding
        ) as reached_at
    from ops.windows
),
broken as (
    select
        stream, account_id,
        min(case when since is not null and (reached_at is null or since > reached_at) then since end) as gap_before_at,
        max(until) as highest_until
    from chained
    group by all
)
select
    broken.stream,
    broken.account_id,
    max(chained.until) filter (where broken.gap_before_at is null or chained.since is null or chained.since < broken.gap_before_at) as watermark_at,
    broken.highest_until as highest_window_at,
    broken.gap_before_at is not null as has_gap
from broken
join chained using (stream, account_id)
group by all;
comment on view ops.watermarks is 'How far each stream of each account is complete: one row per stream and account. UTC.';
comment on column ops.watermarks.stream is 'Stream.';
comment on column ops.watermarks.account_id is 'Account.';
comment on column ops.watermarks.watermark_at is 'Every change before this instant (server time, UTC) is in the warehouse; null while the oldest history is still missing.';
comment on column ops.watermarks.highest_window_at is 'Upper end of the newest committed window (UTC); above watermark_at only while there is a gap.';
comment on column ops.watermarks.has_gap is 'Whether a stretch of time below highest_window_at is not covered by any committed window.';

-- The evidence that counts for each list: of the newest slice that left any.
create view ops.newest_reconciliations as
with slice_ends as (
    select slice_id, max(committed_at) as committed_at from ops.slices group by slice_id
)
select reconciliations.*
from ops.reconciliations as reconciliations
left join slice_ends using (slice_id)
left join ops.runs as runs using (run_id)
qualify row_number() over (
    partition by reconciliations.stream, reconciliations.api_client
    -- A reconciliation has no time of its own: its slice has, or else its run, and one that has neither counts as the newest.
    order by coalesce(slice_ends.committed_at, runs.started_at) desc nulls first, reconciliations.rowid desc
) = 1;
comment on view ops.newest_reconciliations is 'The newest row of ops.reconciliations for each stream and API client; same columns.';
comment on column ops.newest_reconciliations.slice_id is 'Slice that was walked.';
comment on column ops.newest_reconciliations.run_id is 'Run.';
comment on column ops.newest_reconciliations.stream is 'Stream.';
comment on column ops.newest_reconciliations.api_client is 'API client.';
comment on column ops.newest_reconciliations.first_total is 'Total that the first page gave; null if none.';
comment on column ops.newest_reconciliations.last_total is 'Total that the last page gave; null if none.';
comment on column ops.newest_reconciliations.distinct_count is 'Distinct keys read.';
comment on column ops.newest_reconciliations.walks_count is 'How often the list was walked.';
comment on column ops.newest_reconciliations.verdict is 'settled (proved equal), unsettled (totals moved while it was read) or different (missing rows, confirmed by a second walk).';
