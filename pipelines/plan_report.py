"""How `plan` shows what a run would ask.

What lives here: rendering; the shape of the JSON is in the docstring of `plan_json`. What does not: tables and sentences as such (`console`), finding
anything out (`preview`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.console import Json, print_lines, print_table
from pipelines.status_report import show_source

if TYPE_CHECKING:
    from pipelines.preview import Preview


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
                "since": piece.since,
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
        "problems": list(dict.fromkeys(found.problems)),
    }


def show_plan(found: Preview) -> None:
    """The slices, newest first within a stream, and the estimate."""
    if found.source is None:
        print_lines("There is no warehouse yet: this is a first load.")
    else:
        show_source(found.source)
    print_table(
        ["stream", "API client", "accounts", "from", "until", "kind", "rows known", "rows told", "requests"],
        [
            [
                piece.slice.stream,
                piece.slice.api_client,
                piece.slice.only_account or len(piece.slice.accounts),
                piece.since or "the beginning",
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
    print_lines(*(f"problem: {text}" for text in dict.fromkeys(found.problems)))


def _span(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"
