-- What is newest is what began last here, whatever this machine's clock said then: one that was wrong for a night would be believed until that date came.
alter table ops.runs add column number BIGINT;
alter table ops.runs add column api_clients VARCHAR[];
comment on column ops.runs.number is 'Place in the order in which runs began, from 1; the highest is the newest.';
comment on column ops.runs.api_clients is 'Names of the API clients in the settings of the run; null for runs of older versions.';
-- After all that alters the table: DuckDB takes no other order within a transaction.
update ops.runs
set number = numbered.number
from (
    select run_id, row_number() over (order by started_at, run_id) as number
    from ops.runs
) as numbered
where numbered.run_id = runs.run_id;

create view ops.visible_accounts as
with lists as (
    select slices.api_client, windows.account_id, windows.until
    from ops.windows as windows
    join ops.slices as slices on slices.slice_id = windows.slice_id and slices.is_last_part
    where windows.stream = 'accounts'
),
newest as (
    select api_client, max(until) as listed_at
    from lists
    group by api_client
),
configured as (
    select arg_max(api_clients, number) as api_clients
    from ops.runs
    where api_clients is not null
)
select lists.account_id, max(lists.until) as listed_at
from lists
join newest on newest.api_client = lists.api_client and newest.listed_at = lists.until
cross join configured
-- Of an API client whose list could not be read since, the last one that was counts; of one that the settings have no more, none does.
where coalesce(list_contains(configured.api_clients, lists.api_client), lists.until = (select max(listed_at) from newest))
group by lists.account_id;
comment on view ops.visible_accounts is 'Accounts in the newest list of an API client that the newest run''s settings name: one row per account.';
comment on column ops.visible_accounts.account_id is 'Account.';
comment on column ops.visible_accounts.listed_at is 'When that list was read (server time, UTC).';

-- The evidence that counts for each list: of the newest slice that left any.
create or replace view ops.newest_reconciliations as
with newest as (
    select reconciliations.*, coalesce(runs.number, 0) as number
    from ops.reconciliations as reconciliations
    left join (select slice_id, max(committed_at) as committed_at from ops.slices group by slice_id) as slice_ends using (slice_id)
    left join ops.runs as runs using (run_id)
    qualify row_number() over (
        partition by reconciliations.stream, reconciliations.api_client, reconciliations.account_id
        -- One whose run nobody knows counts as the newest.
        order by runs.number desc nulls first, slice_ends.committed_at desc nulls first, reconciliations.rowid desc
    ) = 1
),
swept as (
    select slices.stream, slices.api_client, max(runs.number) as number
    from ops.slices as slices
    join ops.runs as runs using (run_id)
    where slices.kind = 'sweep' and slices.is_last_part
    group by slices.stream, slices.api_client
),
configured as (
    select arg_max(api_clients, number) as api_clients, arg_max(streams, number) as streams
    from ops.runs
    where api_clients is not null
)
select newest.* exclude (number)
from newest
cross join configured
left join swept using (stream, api_client)
-- Nobody will ever write again of a list that is not read any more, and a later sweep that left no evidence has read the list whole all the same.
where coalesce(swept.number <= newest.number, true)
    and coalesce(list_contains(configured.api_clients, newest.api_client), true)
    and coalesce(list_contains(configured.streams, newest.stream), true)
    and (newest.account_id is null or newest.account_id in (select account_id from ops.visible_accounts));
comment on view ops.newest_reconciliations is 'The row of ops.reconciliations that counts for each stream, API client and account that are still read: the newest; same columns.';
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

comment on table ops.publications is 'One row per published file, which holds it itself and so tells its own age; in the working file from the moment on when the published one stood in its place.';
