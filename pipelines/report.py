"""How the command line shows what was done: tables and sentences for people, one JSON object for programs.

What lives here: rendering what `sync`, `renormalise`, `check` and `shell` give; the shape of each command's JSON is in the docstring of its `…_json`. What
does not: tables and sentences as such (`console`), `plan` and `status` (`plan_report`, `status_report`), finding anything out.
JSON: durations are seconds (`_s`) or hours, counts whole numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pipelines.console import Json, print_lines, print_table

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.commands import RenormaliseReport
    from pipelines.doctor_lines import DoctorLine
    from pipelines.run import StreamReport
    from pipelines.sync import RunReport

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

    `erased_count`: stored texts, replaced versions and records put aside included, out of which members in `redact.members` were taken, and rows that went
    or were emptied, since no name of the contract fills them.
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


# check


def check_json(lines: Sequence[DoctorLine]) -> Json:
    """What `check --json` prints: {is_ok, lines: [{name, state: "ok" | "warning" | "failed", detail}]}; `is_ok`: no line failed."""
    return {
        "is_ok": all(line.state != "failed" for line in lines),
        "lines": [{"name": line.name, "state": line.state, "detail": line.detail} for line in lines],
    }


def show_line(line: DoctorLine) -> None:
    """One line of `check`, at once."""
    first, *more = line.detail.split("\n")
    print_lines(f"{line.state:<8} {line.name}: {first}", *(" " * 9 + one for one in more))
    sys.stdout.flush()


# shell


def result_json(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[object]]) -> Json:
    """What `shell --json -c …` prints: {columns: [{name, type}], rows: [[value, …]]}; a list, since names may repeat."""
    return {"columns": [{"name": name, "type": kind} for name, kind in columns], "rows": rows}
