"""The assets: one short body for every stream, and the published file with its marts.

What lives here: what Dagster is told (metadata, partitions, failures). What does not: how anything is synced (`sync`) or published
(`resources.publish`). Partition D of a stream says: every row whose last change lay on D, when D was read, is in the warehouse.
No `from __future__ import annotations` here: Dagster reads the annotations of the functions that a factory makes.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime
from importlib.metadata import version
from typing import Any

import dagster as dg

from pipelines.ending import note_end
from pipelines.plan import Request, Window, change_days, complete_days, days
from pipelines.run import Run, StreamReport, open_run
from pipelines.streams import ACCOUNTS, BUILT_IN, Stream
from pipelines.sync import RunReport, publish_run, sync_streams
from resources.dagster_resources import AppointeddResource, WarehouseResource, close_run, once
from resources.errors import SettingsError, UsageError
from resources.settings import Settings
from resources.sql_files import mart_texts, marts
from resources.warehouse import READER_WAIT_S, WRITER_WAIT_S, Warehouse

VERSION = version("appointedd-warehouse")
# Jobs whose name says what a run of them is.
NIGHTLY, SWEEP = "nightly", "sweep"
RANGE_START, RANGE_END, PARTITION, BACKFILL = (
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
    "dagster/partition",
    "dagster/backfill",
)
PUBLISHED = dg.AssetKey("analytics")
DESCRIPTIONS = {
    "accounts": "The account list of every API client, read whole at the start of each run.",
    "customers": "Customers of all accounts, with tags and custom fields.",
    "bookings": "Bookings of all accounts, with participants, bookable resources and answers.",
    "events": "Events of all accounts; by working assumption, group sessions that people book into.",
}


def partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Change days in the configured zone, from `SYNC_HISTORY_START` to yesterday."""
    if settings.sync_history_start > datetime.now(settings.zone).date():
        raise SettingsError(
            f"SYNC_HISTORY_START is wrong: {settings.sync_history_start} has not come yet, so there would be no change days. Name a past day."
        )
    return dg.DailyPartitionsDefinition(
        start_date=settings.sync_history_start.isoformat(), timezone=settings.sync_time_zone
    )


def chosen_days(tags: Mapping[str, str], settings: Settings) -> Window | None:
    """The change days that a Dagster run was launched for; None where it was launched for none."""
    first = tags.get(RANGE_START) or tags.get(PARTITION)
    if not first:
        return None
    last = tags.get(RANGE_END) or first
    return change_days(date.fromisoformat(first), date.fromisoformat(last), settings.zone)


def request_of(job: str, tags: Mapping[str, str], settings: Settings) -> Request:
    """What a Dagster run asks for: the nightly or the sweep that its job is called, else its days as a backfill.

    From its page a job over partitioned assets cannot be launched without a day, so one day there means the job itself. A range is refused: its days would
    show as read again, though they were not.
    """
    days_asked = chosen_days(tags, settings)
    if job not in (NIGHTLY, SWEEP):
        return Request("backfill" if days_asked or BACKFILL in tags else "nightly", days_asked)
    if BACKFILL in tags or tags.get(RANGE_START) != tags.get(RANGE_END):
        raise UsageError(
            f"The job {job} takes no range of days: it reads {'whatever has changed' if job == NIGHTLY else 'every list whole'}. To read some days again, "
            f"select the streams under Assets, Materialize, and enter the range. To start the job by hand: Automation, {job}_schedule, Preview tick result, "
            f"Launch all; or choose one single day on its page."
        )
    return Request("nightly" if job == NIGHTLY else "sweep")


def _run(context: dg.AssetExecutionContext, appointedd: AppointeddResource, warehouse: WarehouseResource) -> Run:
    """The one `Run` of this Dagster run; the first asset that asks opens it, and reads the account list."""

    def open_it() -> AbstractContextManager[Run]:
        settings = appointedd.settings
        request = request_of(context.run.job_name, context.run.tags, settings)
        selected = context.run.asset_selection  # none: all of the job's, and each job that reads streams publishes
        if request.kind != "backfill" and chosen_days(context.run.tags, settings):
            context.log.warning("This run is a whole %s, whatever day was chosen when it was launched.", request.kind)
        return open_run(
            settings,
            appointedd.contract,
            warehouse.open(),
            request,
            run_id=context.run.run_id,
            started_by="dagster",
            version=VERSION,
            ends_with_publishing=not selected or PUBLISHED in selected,
            ends_with_accounts=selected == {dg.AssetKey(ACCOUNTS.name)},
        )

    return once(context.run.run_id, open_it)


def describe(warehouse: Warehouse, schema: str, table: str, wait_s: float = WRITER_WAIT_S) -> dict[str, Any]:
    """Dagster's standard metadata of a table: columns with their descriptions, from the DuckDB catalogue, and the number of live rows.

    Where another process writes for longer than `wait_s`, the published file is described instead, which knows of a run only once that has published.
    """
    with warehouse.reader(wait_s) as (connection, _):
        columns = connection.execute(
            """
            select column_name, data_type, comment, is_nullable from duckdb_columns()
            where schema_name = ? and table_name = ? order by column_index
            """,
            [schema, table],
        ).fetchall()
        live = "where deleted_at is null" if any(c[0] == "deleted_at" for c in columns) else ""
        (count,) = connection.execute(f"select count(*) from {schema}.{table} {live}").fetchone() or (0,)  # noqa: S608  names are ours
    return {
        "dagster/row_count": count,
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(n, kind, comment, constraints=dg.TableColumnConstraints(nullable=nullable))
                for n, kind, comment, nullable in columns
            ]
        ),
    }


def _metadata(report: StreamReport) -> dict[str, Any]:
    known: dict[str, Any] = {f"rows_{name}": count for name, count in vars(report.counts).items()}
    known |= {
        "slices": report.slices,
        "pages": report.pages,
        "requests": report.traffic.requests,
        "retries": report.traffic.retries,
        "waited_for_rate_limit_s": round(report.traffic.waited_s, 3),
        "accounts": len(report.watermarks),
    }
    known |= {f"drift_{kind}": count for kind, count in sorted(report.drift.items())}
    if report.watermark:
        known["watermark"] = dg.MetadataValue.timestamp(report.watermark)
    for name, sentences in (("warnings", report.warnings), ("problems", report.problems)):
        if sentences:
            known[name] = dg.MetadataValue.md("\n".join(f"- {s}" for s in sentences))
    return known


def _log_complete_days(context: dg.AssetExecutionContext, run: Run, report: StreamReport) -> None:
    """Mark the change days that every account has completed by now and that do not show as materialised, or show as failed since a red backfill."""
    known = complete_days(report.watermarks.values(), run.settings.zone, run.settings.sync_history_start)
    if known is None or run.problems:
        return
    keys = [day.isoformat() for day in days(*known)]
    statuses = context.instance.get_status_by_partition(context.asset_key, keys, partitions(run.settings)) or {}
    for key in keys:
        status = statuses.get(key)
        if status is None or status.value != "MATERIALIZED":
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=key))


def _told(
    context: dg.AssetExecutionContext, run: Run, report: StreamReport, stream: Stream
) -> dg.MaterializeResult[Any]:
    """What one stream's report means to Dagster; raises `dg.Failure` where something may be missing.

    A failure is raised instead of a result, never after one: yielding a result and then failing would mark every partition of the range.
    """
    for warning in report.warnings:
        context.log.warning(warning)
    metadata = _metadata(report)
    if context.run.tags.get(RANGE_START) != context.run.tags.get(RANGE_END):
        # Dagster repeats the result for each day of a range, and these are of all its days.
        metadata = {f"range_{name}" if isinstance(v, int | float) else name: v for name, v in metadata.items()}
    metadata |= describe(run.warehouse, "core", stream.name)
    # Looked at in a nightly too, since Dagster marks the day that it was launched for.
    window, problems = chosen_days(context.run.tags, run.settings), list(dict.fromkeys(run.problems + report.problems))
    if window is not None and window.until > run.end:
        problems.append(
            f"{stream.name}: by the API's clock the last of these days is not over yet ({run.end:%Y-%m-%d %H:%M} UTC), so it cannot be complete. "
            f"Choose days up to the day before."
        )
    if run.request.window is None and stream is not ACCOUNTS:
        _log_complete_days(context, run, report)
    if problems:
        note_end(run.warehouse, run.run_id, problems)
        raise dg.Failure("\n".join(problems), metadata=metadata, allow_retries=False)
    return dg.MaterializeResult(metadata=metadata)


@dg.asset(name=ACCOUNTS.name, group_name="core", kinds={"duckdb"}, description=DESCRIPTIONS[ACCOUNTS.name])
def accounts(
    context: dg.AssetExecutionContext, appointedd: AppointeddResource, warehouse: WarehouseResource
) -> dg.MaterializeResult[Any]:
    """The account list, which the run read when it was opened.

    Where an API client's list failed, the streams are red for it. If this asset were, Dagster would skip them, and with them what the others can read.
    """
    run = _run(context, appointedd, warehouse)
    if not run.clients or context.run.asset_selection == {context.asset_key}:
        return _told(context, run, run.accounts_report, ACCOUNTS)
    for problem in run.problems:
        context.log.error(problem)
    report = run.accounts_report
    return dg.MaterializeResult(metadata=_metadata(report) | describe(run.warehouse, "core", ACCOUNTS.name))


def stream_asset(stream: Stream, partitions_def: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The asset of one stream."""

    def _asset(
        context: dg.AssetExecutionContext, appointedd: AppointeddResource, warehouse: WarehouseResource
    ) -> dg.MaterializeResult[Any]:
        run = _run(context, appointedd, warehouse)
        if not run.ends_with_publishing:
            context.log.info("This run does not publish: analysts see what it reads after the next run that does.")
        (report,) = sync_streams(run, [stream], context.log.info)
        return _told(context, run, report, stream)

    with warnings.catch_warnings():
        # Dagster calls `backfill_policy` beta; without it a backfill of a range would be one run for each day.
        warnings.simplefilter("ignore", dg.BetaWarning)
        decorate = dg.asset(
            name=stream.name,
            deps=[accounts],
            group_name="core",
            kinds={"duckdb"},
            partitions_def=partitions_def,
            backfill_policy=dg.BackfillPolicy.single_run(),
            description=DESCRIPTIONS.get(
                stream.name, f"The list {stream.name}, which the contract adds; stored as it comes."
            ),
        )
        return decorate(_asset)


def _mart_deps(name: str) -> list[dg.AssetKey]:
    """Streams and marts that a mart reads, from its own SQL."""
    text = _mart_sql(name)
    text = re.sub(r"--.*|'(?:[^']|'')*'", "", text)  # comments may name other views
    parents = {child.table: stream.name for stream in BUILT_IN.values() for child in stream.children}
    tables = set(re.findall(r"\bcore\.(\w+)", text))
    found = {dg.AssetKey(parents.get(table, table)) for table in tables}
    found |= {
        dg.AssetKey(["marts", mart]) for mart in set(re.findall(r"\bmarts\.(\w+)", text)) - {name} if mart in marts()
    }
    return sorted(found)


def _mart_description(name: str) -> str:
    """The comment that analysts read on the view."""
    (comment,) = re.findall(rf"comment on view marts\.{name} is '((?:[^']|'')*)'", _mart_sql(name))
    return str(comment).replace("''", "'")


def _mart_sql(name: str) -> str:
    return next(text for text in mart_texts() if f"view marts.{name} " in text)


def publish_asset(streams: Sequence[Stream]) -> dg.AssetsDefinition:
    """The published file, checked and renamed into place after all of these streams, and its marts."""

    @dg.multi_asset(
        name="publish",
        group_name="published",
        # Only ever as a whole: a backfill would split off the mart of accounts, and publish for it before any stream is read.
        can_subset=False,
        specs=[
            dg.AssetSpec(
                PUBLISHED,
                deps=[ACCOUNTS.name, *(s.name for s in streams)],
                kinds={"duckdb"},
                description="The published file that analysts open: checked, then renamed over the old one; no run locks it.",
            ),
            *(
                dg.AssetSpec(
                    ["marts", mart],
                    deps=_mart_deps(mart),
                    kinds={"duckdb", "view"},
                    description=_mart_description(mart),
                )
                for mart in marts()
            ),
        ],
    )
    def publish(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> Iterator[dg.MaterializeResult[Any]]:
        # The marts are views in the same file, so they are as new as it is.
        close_run(context.run.run_id)
        opened = warehouse.open()
        report = RunReport(context.run.run_id, "publish", [])
        publish_run(opened, report, VERSION)
        for warning in report.warnings:
            context.log.warning(warning)
        if report.problems:
            raise dg.Failure("\n".join(report.problems), allow_retries=False)
        size = opened.published_path.stat().st_size
        yield dg.MaterializeResult(
            asset_key=PUBLISHED,
            metadata={"path": dg.MetadataValue.path(opened.published_path), "size_mb": round(size / 1e6, 2)},
        )
        for mart in marts():
            yield dg.MaterializeResult(
                asset_key=["marts", mart], metadata=describe(opened, "marts", mart, READER_WAIT_S)
            )

    return publish
