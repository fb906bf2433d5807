"""How `status` shows what the warehouse says of itself, and `release` the brakes among it.

What lives here: rendering; the shape of each command's JSON is in the docstring of its `…_json`. What does not: tables and sentences as such (`console`),
finding anything out (`status`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.console import Json, print_lines, print_table, shown

if TYPE_CHECKING:
    from pipelines.status import Overlap, Source, Status
    from resources.state import StandingBrake

# Head of a table's column → the key of its values.
RUN = {
    "run": "run_id",
    "kind": "kind",
    "by": "started_by",
    "version": "product_version",
    "started": "started_at",
    "ended": "ended_at",
    "status": "status",
}
DRIFT = {"stream": "stream", "kind": "kind", "where": "path", "detail": "detail", "seen": "seen_count"}
QUARANTINE = {"stream": "stream", "reason": "reason", "records": "records_count"}
BRAKE = {
    "stream": "stream",
    "account": "account_id",
    "would go": "gone_count",
    "of rows": "rows_count",
    "stopped": "stopped_at",
}


def show_source(source: Source) -> None:
    """Which file was read, where it is not the working one."""
    if source.is_published_file:
        print_lines(
            f"The working file is being written; this is the published file {source.path}, as of {shown(source.as_of)}."
        )


def status_json(status: Status) -> Json:
    """What `status --json` prints.

    {read_from: {path, is_published_file, as_of}, streams: [the columns of marts.data_status without problems and published_at, and age_hours],
    runs: [the columns of ops.runs], problems: [text], drift: [{stream, kind, path, detail, seen_count, last_seen_at}], drift_count,
    quarantine: [{stream, reason, records_count}], brakes: [{stream, account_id, gone_count, rows_count, stopped_at, released_at}],
    overlap: {configured_minutes, longest_minutes, late_count, nights_count, proposed_minutes}}

    `runs` are the newest, newest first; `problems` are the newest run's; `drift` and `quarantine` the most frequent.
    """
    return {
        "read_from": vars(status.source),
        "streams": status.streams,
        "runs": status.runs,
        "problems": status.problems,
        "drift": status.drift,
        "drift_count": status.drift_count,
        "quarantine": status.quarantine,
        "brakes": status.brakes,
        "overlap": {**vars(status.overlap), "proposed_minutes": status.overlap.proposed_minutes},
    }


def show_status(status: Status) -> None:
    """How complete each stream of each account is; then the newest runs, what made the last one red, and what arrived oddly."""
    show_source(status.source)
    print_table(
        ["account", "stream", "complete up to", "age", "rows", "tombstones", "last run", "ended", "notes"],
        [
            [
                row["account_name"] or row["account_id"],
                row["stream"],
                row["complete_until_at"] or "not complete yet",
                None if row["age_hours"] is None else f"{row['age_hours']:,.1f} h",
                row["rows_count"],
                row["tombstones_count"],
                f"{row['last_run_kind']}, {row['last_run_status']}" if row["last_run_id"] else None,
                row["last_run_ended_at"],
                ", ".join(_notes(row)),
            ]
            for row in status.streams
        ],
    )
    print_table(
        [*RUN, "problems", "warnings"],
        [[*_cells(run, RUN), len(run["problems"]), len(run["warnings"])] for run in status.runs],
    )
    print_lines(*(f"problem: {text}" for text in status.problems))
    if status.drift:
        print_lines(f"Unlike the contract ({len(status.drift)} of {status.drift_count} findings in ops.drift):")
        print_table([*DRIFT], [_cells(one, DRIFT) for one in status.drift])
    if status.quarantine:
        print_lines("Records that could not become rows (ops.quarantine):")
        print_table([*QUARANTINE], [_cells(one, QUARANTINE) for one in status.quarantine])
    if status.brakes:
        _show_brakes(status.brakes)
    print_lines(_overlap(status.overlap))


def _show_brakes(brakes: Sequence[Mapping[str, Any]]) -> None:
    """Accounts at which a sweep stopped, and the way on."""
    print_lines("Sweeps that stopped, because too much would have been called deleted (ops.brakes):")
    print_table(
        [*BRAKE, "released"],
        [[*_cells(b, BRAKE), b["released_at"] or "no: appointedd-warehouse release"] for b in brakes],
    )


def _cells(row: Mapping[str, Any], columns: Mapping[str, str]) -> list[object]:
    return [row[key] for key in columns.values()]


def _overlap(seen: Overlap) -> str:
    if seen.configured_minutes is None:
        return "How late changes arrive is not known yet; the next sync begins to measure it."
    since = f"in the {seen.nights_count} nightly runs of the last 90 days"
    if seen.longest_minutes is None:
        return f"No change arrived later than it says of itself {since}; SYNC_OVERLAP_MINUTES is {seen.configured_minutes:,}."
    told = (
        f"{seen.late_count:,} changes arrived late {since}, up to {seen.longest_minutes:,.1f} minutes; "
        f"SYNC_OVERLAP_MINUTES is {seen.configured_minutes:,}"
    )
    if seen.proposed_minutes is None:
        return f"{told}. That is more than an overlap should mend: sweep more often."
    return f"{told}, and {seen.proposed_minutes:,} would do."


def _notes(row: Mapping[str, Any]) -> Iterable[str]:
    if not row["is_visible"]:
        yield "frozen: no API client lists it, or SYNC_ACCOUNTS leaves it out"
    if row["has_gap"]:
        yield "has a gap"
    if row["held_back_count"]:
        yield f"sweep stopped at {row['held_back_count']:,} deletions"
    if row["is_zone_assumed"]:
        yield "time zone assumed"


def release_json(brakes: Sequence[StandingBrake]) -> Json:
    """What `release --json` prints: {brakes: [{stream, account_id, gone_count, rows_count, stopped_at, released_at}]}, all that stand."""
    return {"brakes": [vars(brake) for brake in brakes]}


def show_release(brakes: Sequence[StandingBrake]) -> None:
    """The brakes that stand."""
    if brakes:
        _show_brakes([vars(brake) for brake in brakes])
    else:
        print_lines("No sweep has stopped; there is nothing to release.")
