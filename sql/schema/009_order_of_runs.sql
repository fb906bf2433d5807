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

create view ops.newest_reading as
select max(slices.fetched_at) as newest_at
from ops.slices as slices
join ops.runs as runs using (run_id)
where runs.number = (select max(number) from ops.runs semi join ops.slices using (run_id));
comment on view ops.newest_reading is 'When the newest run that committed anything read its last page: one row. A clock of the API that was ahead for a night is no matter to it.';
comment on column ops.newest_reading.newest_at is 'Server time (UTC).';

-- A list of which this API client serves nothing has no window, and its slice no account: so slices, not windows.
create view ops.newest_account_lists as
select api_client, until as listed_at, account_ids
from ops.slices
where stream = 'accounts' and is_last_part
qualify row_number() over (partition by api_client order by until desc, committed_at desc) = 1;
comment on view ops.newest_account_lists is 'The newest account list of each API client that ever had one: one row per API client.';
comment on column ops.newest_account_lists.api_client is 'API client.';
comment on column ops.newest_account_lists.listed_at is 'When it was read (server time, UTC).';
comment on column ops.newest_account_lists.account_ids is 'The accounts of the list that the API client serves: those that no earlier one lists, and that SYNC_ACCOUNTS does not leave out.';

create view ops.visible_accounts as
with configured as (
    select arg_max(api_clients, number) as api_clients
    from ops.runs
    where api_clients is not null
),
served as (
    select unnest(lists.account_ids) as account_id, lists.listed_at
    from ops.newest_account_lists as lists
    cross join configured
    -- Of an API client whose list could not be read since, the last one that was counts; of one that the settings have no more, none does.
    where coalesce(
        list_contains(configured.api_clients, lists.api_client), lists.listed_at = (select max(listed_at) from ops.newest_account_lists)
    )
)
select account_id, max(listed_at) as listed_at
from served
group by account_id;
comment on view ops.visible_accounts is 'Accounts that an API client of the newest run''s settings serves, by its newest list: one row per account.';
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
left join ops.newest_account_lists as lists using (api_client)
-- Nobody will ever write again of a list that is not read any more, and a later sweep that left no evidence has read the list whole all the same.
where coalesce(swept.number <= newest.number, true)
    and coalesce(list_contains(configured.api_clients, newest.api_client), true)
    and coalesce(list_contains(configured.streams, newest.stream), true)
    and (
        newest.stream = 'accounts'
        or coalesce(
            case when newest.account_id is null then len(lists.account_ids) > 0 else list_contains(lists.account_ids, newest.account_id) end,
            true
        )
    );
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
