"""How the command line shows what was done: tables and sentences for people, one JSON object for programs, both on standard output.

What lives here: rendering; the shape of each command's JSON is in the docstring of its `…_json`. What does not: finding anything out.
JSON: instants are ISO 8601 with Z, durations seconds (`_s`) or hours, counts whole numbers, decimals text. Control characters of the API's texts are
never sent to a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.commands import RenormaliseReport
    from pipelines.doctor import Line
    from pipelines.preview import PlannedSlice, Preview
    from pipelines.run import StreamReport
    from pipelines.status import Overlap, Source, Status
    from pipelines.sync import RunReport

Json = dict[str, Any]
# Where output goes to a file or a program there is no width to fit, and a table must not lose its columns.
UNBOUND_WIDTH = 10_000


def printable(text: str) -> str:
    """A text without characters that would steer a terminal; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def plain(value: object) -> Any:
    """A value as JSON can carry it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal) or (isinstance(value, float) and not abs(value) < float("inf")):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def shown(value: object) -> str:
    """A value as a table's cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if value.tzinfo else value.isoformat(sep=" ")
    return printable(value if isinstance(value, str) else str(plain(value)))


def print_json(value: Json) -> None:
    """One object on standard output."""
    print(json.dumps(plain(value), indent=2))


def print_lines(*lines: str) -> None:
    """Sentences on standard output, one a line."""
    for line in lines:
        print(printable(line))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; numbers stand right, and nothing in a cell is taken for markup."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    held = [list(row) for row in rows]
    for number, name in enumerate(columns):
        is_number = any(isinstance(row[number], int | float | Decimal) for row in held)
        table.add_column(Text(printable(name)), justify="right" if is_number else "left", overflow="fold")
    for row in held:
        table.add_row(*(Text(shown(value)) for value in row))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = UNBOUND_WIDTH
    console.print(table)


# sync and renormalise


def sync_json(report: RunReport, published_path: Path) -> Json:
    """What `sync --json` prints.

    {run_id, kind, is_complete, streams: [{stream, read_count, inserted_count, updated_count, unchanged_count, stale_count, duplicate_count,
    quarantined_count, tombstoned_count, silent_count, slices_count, pages_count, requests_count, retries_count, waited_s, complete_until_at,
    complete_until_at_by_account: {account_id: instant or null}}], problems: [text], warnings: [text], is_published, published_path}
    """
    return {
        "run_id": report.run_id,
        "kind": report.kind,
        "is_complete": not report.problems,
        "streams": [_stream_json(stream) for stream in report.streams],
        **_outcome_json(report, published_path),
    }


def _stream_json(stream: StreamReport) -> Json:
    return {
        "stream": stream.stream,
        **{f"{name}_count": value for name, value in vars(stream.counts).items()},
        "slices_count": stream.slices,
        "pages_count": stream.pages,
        "requests_count": stream.traffic.requests,
        "retries_count": stream.traffic.retries,
        "waited_s": round(stream.traffic.waited_s, 3),
        "complete_until_at": stream.watermark,
        "complete_until_at_by_account": stream.watermarks,
    }


def _outcome_json(report: RunReport, published_path: Path) -> Json:
    return {
        "problems": _once(report.problems),
        "warnings": _once(report.warnings),
        "is_published": report.published,
        "published_path": published_path,
    }


def show_sync(report: RunReport, published_path: Path) -> None:
    """A line for each stream, then what a person should know, then where the result is."""
    counts = ("read", "inserted", "updated", "unchanged", "tombstoned", "quarantined")
    print_table(
        ["stream", *counts, "requests", "retries", "waited", "complete up to"],
        [
            [
                s.stream,
                *(getattr(s.counts, c) for c in counts),
                s.traffic.requests,
                s.traffic.retries,
                f"{s.traffic.waited_s:.1f} s",
                s.watermark or "not complete yet",
            ]
            for s in report.streams
        ],
    )
    print_lines(
        *(
            f"{s.stream}: {s.counts.silent:,} rows changed though their change time did not; only sweeps and the overlap see such changes."
            for s in report.streams
            if s.counts.silent
        )
    )
    _show_outcome(report, published_path)


def renormalise_json(report: RenormaliseReport, published_path: Path) -> Json:
    """What `renormalise --json` prints.

    {run_id, kind: "renormalise", is_complete, streams: [{stream, read_count, changed_count, erased_count}], problems: [text], warnings: [text],
    is_published, published_path}

    `erased_count`: stored texts, replaced versions and records put aside included, out of which members in `redact.members` were taken.
    """
    return {
        "run_id": report.run_id,
        "kind": report.kind,
        "is_complete": not report.problems,
        "streams": [
            {"stream": stream, "read_count": read, "changed_count": changed, "erased_count": erased}
            for stream, read, changed, erased in report.rows
        ],
        **_outcome_json(report, published_path),
    }


def show_renormalise(report: RenormaliseReport, published_path: Path) -> None:
    """A line for each stream, then the outcome."""
    print_table(["stream", "read", "changed", "erased"], report.rows)
    _show_outcome(report, published_path)


def _show_outcome(report: RunReport, published_path: Path) -> None:
    print_lines(*(f"warning: {text}" for text in _once(report.warnings)))
    print_lines(*(f"problem: {text}" for text in _once(report.problems)))
    if report.published:
        print_lines(f"Published {published_path}")
    if report.problems:
        print_lines("Something may be missing; what was read is committed, and the next run asks for the rest.")


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


# plan


def plan_json(found: Preview) -> Json:
    """What `plan --json` prints.

    {kind, end_at, read_from: {path, is_published_file, as_of} or null, slices: [{stream, api_client, kind, account_ids, only_account_id, since, until,
    known_rows_count, told_rows_count, requests_count, is_at_least}], listing_requests_count, asked_requests_count, requests_count, is_at_least,
    shortest_s, problems: [text]}

    `since` null: from the beginning. `told_rows_count`: what the API counts, null where it does not. `is_at_least`: the number of requests is a lower
    bound. `shortest_s`: seconds at the rate budget, or as fast as the API answers.
    """
    return {
        "kind": found.kind,
        "end_at": found.end,
        "read_from": vars(found.source) if found.source else None,
        "slices": [
            {
                "stream": piece.slice.stream,
                "api_client": piece.slice.api_client,
                "kind": piece.slice.kind,
                "account_ids": piece.slice.accounts,
                "only_account_id": piece.slice.only_account,
                "since": _since(piece),
                "until": piece.slice.window.until,
                "known_rows_count": piece.rows_known,
                "told_rows_count": piece.rows_told,
                "requests_count": piece.requests,
                "is_at_least": piece.is_at_least,
            }
            for piece in found.slices
        ],
        "listing_requests_count": found.listing_requests,
        "asked_requests_count": found.asked_requests,
        "requests_count": found.requests,
        "is_at_least": found.is_at_least,
        "shortest_s": round(found.shortest_s, 1),
        "problems": _once(found.problems),
    }


def _since(piece: PlannedSlice) -> datetime | None:
    since = piece.slice.window.since
    return None if since == datetime.min.replace(tzinfo=UTC) else since


def show_plan(found: Preview) -> None:
    """The slices, newest first within a stream, and the estimate."""
    if found.source is None:
        print_lines("There is no warehouse yet: this is a first load.")
    else:
        _show_source(found.source)
    print_table(
        ["stream", "API client", "accounts", "from", "until", "kind", "rows known", "rows told", "requests"],
        [
            [
                piece.slice.stream,
                piece.slice.api_client,
                piece.slice.only_account or len(piece.slice.accounts),
                _since(piece) or "the beginning",
                piece.slice.window.until,
                piece.slice.kind,
                piece.rows_known,
                piece.rows_told,
                ("at least " if piece.is_at_least else "") + f"{piece.requests:,}",
            ]
            for piece in found.slices
        ],
    )
    bound = "at least" if found.is_at_least else "about"
    print_lines(
        f"{len(found.slices)} slices, {bound} {found.requests:,} requests ({found.listing_requests} of them for tokens and account lists), "
        f"{bound} {_span(found.shortest_s)} at the rate of SYNC_REQUESTS_PER_SECOND or as fast as the API answers. "
        f"To tell this, {found.asked_requests} first pages were read."
    )
    print_lines(*(f"problem: {text}" for text in _once(found.problems)))


def _span(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def _show_source(source: Source) -> None:
    if source.is_published_file:
        print_lines(
            f"The working file is being written; this is the published file {source.path}, as of {shown(source.as_of)}."
        )


# status


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
    _show_source(status.source)
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
        ["run", "kind", "by", "version", "started", "ended", "status", "problems", "warnings"],
        [
            [
                run["run_id"],
                run["kind"],
                run["started_by"],
                run["product_version"],
                run["started_at"],
                run["ended_at"],
                run["status"],
                len(run["problems"]),
                len(run["warnings"]),
            ]
            for run in status.runs
        ],
    )
    print_lines(*(f"problem: {text}" for text in status.problems))
    if status.drift:
        print_lines(f"Unlike the contract ({len(status.drift)} of {status.drift_count} findings in ops.drift):")
        print_table(
            ["stream", "kind", "where", "detail", "seen"],
            [[d["stream"], d["kind"], d["path"], d["detail"], d["seen_count"]] for d in status.drift],
        )
    if status.quarantine:
        print_lines("Records that could not become rows (ops.quarantine):")
        print_table(
            ["stream", "reason", "records"],
            [[q["stream"], q["reason"], q["records_count"]] for q in status.quarantine],
        )

    if status.brakes:
        show_brakes(status.brakes)
    print_lines(_overlap(status.overlap))


def show_brakes(brakes: Sequence[Mapping[str, Any]]) -> None:
    """Accounts at which a sweep stopped, and the way on."""
    print_lines("Sweeps that stopped, because too much would have been called deleted (ops.brakes):")
    print_table(
        ["stream", "account", "would go", "of rows", "stopped", "released"],
        [
            [
                b["stream"],
                b["account_id"],
                b["gone_count"],
                b["rows_count"],
                b["stopped_at"],
                b["released_at"] or "no: appointedd-warehouse release",
            ]
            for b in brakes
        ],
    )


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


# check


def check_json(lines: Sequence[Line]) -> Json:
    """What `check --json` prints: {is_ok, lines: [{name, state: "ok" | "warning" | "failed", detail}]}; `is_ok`: no line failed."""
    return {
        "is_ok": all(line.state != "failed" for line in lines),
        "lines": [{"name": line.name, "state": line.state, "detail": line.detail} for line in lines],
    }


def show_line(line: Line) -> None:
    """One line of `check`, at once."""
    print_lines(f"{line.state:<8} {line.name}: " + line.detail.replace("\n", "\n" + " " * 9))
    sys.stdout.flush()


# shell


def result_json(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[object]]) -> Json:
    """What `shell --json -c …` prints: {columns: [{name, type}], rows: [[value, …]]}; a list, since names may repeat."""
    return {"columns": [{"name": name, "type": kind} for name, kind in columns], "rows": rows}
