"""First contact with servers on which a sync would be green and short of records: `connect` sees it, and leaves off or asks a person.

What lives here: servers that lose records without a word, made of the emulator. What does not: odd servers that a sync notices (`test_connect_worlds`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulator import Emulator, Switches
from tests.test_connect import world
from tests.test_connect_worlds import always, edited, learned_from

Document = dict[str, Any]


@pytest.fixture(scope="module")
def plain() -> Iterator[Emulator]:
    """The default dialect, shared by tests that put it back as it was."""
    with Emulator(world(customers=40, bookings=90)) as running:
        yield running


# ---- lists cut to a page -----------------------------------------------------------------------------------------------------


def _cursor(document: Document, following: object) -> None:
    document["meta"] = {"nextCursor": "abc" if following else None}


def _first_and_last(document: Document, following: object) -> None:
    document["links"] |= {"first": "/v2/x?page=1", "last": "/v2/x?page=7" if following else "/v2/x?page=1"}


def _numbers(document: Document, following: object) -> None:
    document["meta"] = {"current_page": 1, "last_page": 7 if following else 1}


def _nothing(document: Document, following: object) -> None:
    """Not a word."""


def _total(document: Document, following: object) -> None:
    document["meta"] = {"total": 321 if following else len(document["data"])}


@pytest.mark.parametrize(
    ("tells", "said"),
    [
        (_cursor, "meta.nextCursor holds a mark of the next page"),
        (_first_and_last, "links.last is another page than links.first"),
        (_numbers, "meta.last_page counts 7 pages"),
        (_nothing, "different records were seen, at most 25 on a page"),
        (_total, "meta.total counts 321 records, and 25 came"),
    ],
)
def test_a_list_that_is_cut_and_names_no_next_page_is_a_need(
    plain: Emulator, tmp_path: Path, tells: Callable[[Document, object], None], said: str
) -> None:
    def edit(document: Document) -> None:
        following = document["links"].pop("next")
        document["links"] = {"self": document["links"]["self"], "next": None}
        tells(document, following)

    try:
        # With totals alone, nothing else may show more of a list than its first page.
        closed: dict[str, Any] = {"sort": False, "account_filter": frozenset()} if tells is _total else {}
        plain.switches = Switches(page_size=False, default_page_size=25, **closed)
        learned = learned_from(plain, tmp_path, always(edited(edit)))
    finally:
        plain.switches = Switches()
    (need,) = learned.needs
    assert said in need
    assert "a programmer must teach it" in need
