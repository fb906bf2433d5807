-- What a sweep was kept from, how late changes came, totals of single accounts, and what a run was told to hold itself to.
create table ops.brakes (
    stream            VARCHAR not null,
    account_id        VARCHAR not null,
    slice_id          VARCHAR not null,
    run_id            VARCHAR not null,
    gone_count        BIGINT not null,
    rows_count        BIGINT not null,
    stopped_at        TIMESTAMPTZ not null,
    released_at       TIMESTAMPTZ,
    ended_by_slice_id VARCHAR
);
comment on table ops.brakes is 'Sweeps that would have retired too much of an account and did not: one row per stop. Standing while ended_by_slice_id is null. Key: stream, account_id, slice_id.';
comment on column ops.brakes.stream is 'Stream that was swept.';
comment on column ops.brakes.account_id is 'Account of which nothing was retired.';
comment on column ops.brakes.slice_id is 'Slice that stopped there.';
comment on column ops.brakes.run_id is 'Run.';
comment on column ops.brakes.gone_count is 'Rows that the sweep would have retired.';
comment on column ops.brakes.rows_count is 'Live rows of the account before it.';
comment on column ops.brakes.stopped_at is 'Server time of the sweep (UTC).';
comment on column ops.brakes.released_at is 'When a person let the next sweep retire as much (local clock, UTC); null: nobody has.';
comment on column ops.brakes.ended_by_slice_id is 'Later sweep of the account that ended without a stop; null while the brake stands.';

create table ops.late_arrivals (
    slice_id    VARCHAR not null,
    part_number INTEGER not null,
    stream      VARCHAR not null,
    account_id  VARCHAR not null,
    rows_count  BIGINT not null,
    longest_s   DOUBLE not null
);
comment on table ops.late_arrivals is 'Changes that arrived when their own change time was already below the watermark: one row per part and account that brought any. Key: slice_id, part_number, account_id.';
comment on column ops.late_arrivals.slice_id is 'Slice that brought them.';
comment on column ops.late_arrivals.part_number is 'Part of the slice.';
comment on column ops.late_arrivals.stream is 'Stream.';
comment on column ops.late_arrivals.account_id is 'Account.';
comment on column ops.late_arrivals.rows_count is 'Rows that were new or changed, and late.';
comment on column ops.late_arrivals.longest_s is 'How far the latest of them lay below the watermark of its account, in seconds: the overlap that it needed.';

alter table ops.runs add column overlap_minutes INTEGER;
alter table ops.runs add column freshness_hours DOUBLE;
comment on column ops.runs.overlap_minutes is 'SYNC_OVERLAP_MINUTES of the run; null for runs of older versions.';
comment on column ops.runs.freshness_hours is 'SYNC_FRESHNESS_HOURS of the run: a watermark that lags further behind is stale; null for runs of older versions.';

alter table ops.reconciliations add column account_id VARCHAR;
comment on column ops.reconciliations.account_id is 'Account whose own total was compared, in a sweep; null: all accounts of the slice together.';

-- The evidence that counts for each list: of the newest slice that left any. A list of one account alone counts beside the whole.
create or replace view ops.newest_reconciliations as
with slice_ends as (
    select slice_id, max(committed_at) as committed_at from ops.slices group by slice_id
)
select reconciliations.*
from ops.reconciliations as reconciliations
left join slice_ends using (slice_id)
left join ops.runs as runs using (run_id)
qualify row_number() over (
    partition by reconciliations.stream, reconciliations.api_client, reconciliations.account_id
    -- A reconciliation has no time of its own: its slice has, or else its run, and one that has neither counts as the newest.
    order by coalesce(slice_ends.committed_at, runs.started_at) desc nulls first, reconciliations.rowid desc
) = 1;
comment on view ops.newest_reconciliations is 'The newest row of ops.reconciliations for each stream, API client and account; same columns.';
comment on column ops.newest_reconciliations.slice_id is 'Slice that was walked.';
comment on column ops.newest_reconciliations.run_id is 'Run.';
comment on column ops.newest_reconciliations.stream is 'Stream.';
comment on column ops.newest_reconciliations.api_client is 'API client.';
comment on column ops.newest_reconciliations.first_total is 'Total that the first page gave; null if none.';
comment on column ops.newest_reconciliations.last_total is 'Total that the last page gave; null if none.';
comment on column ops.newest_reconciliations.distinct_count is 'Distinct keys read.';
comment on column ops.newest_reconciliations.walks_count is 'How often the list was walked.';
comment on column ops.newest_reconciliations.verdict is 'settled, unsettled or different.';
comment on column ops.newest_reconciliations.account_id is 'Account whose own total was compared; null: all accounts of the slice together.';
