"""The decisions of a first contact, without a server: which answer proves a filter, which name fits a column, whose line is whose."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.connect.columns import elements
from pipelines.connect.described import tokens
from pipelines.connect.findings import Line
from pipelines.connect.honoured import Instants, Trial, judge, trials
from pipelines.connect.matching import match, members_of
from pipelines.connect.ordering import tied_size
from pipelines.connect.override import lay_over
from pipelines.connect.places import (
    account_members,
    counts,
    next_marks,
    next_places,
    rate_limit,
    shifting,
)
from pipelines.connect.shapes import unknown_id
from resources.contract import contract_values, load_contract
from resources.errors import ContractError
from resources.schemas import Shape

Json = dict[str, Any]
CONTRACT = load_contract()

BASE = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

# ---- filters -----------------------------------------------------------------------------------------------------------------

Server = Callable[[Instants, datetime, datetime | None], bool]


def _between(name: str) -> Server:
    return lambda row, since, until: row[name] >= since and (until is None or row[name] <= until)


def _by_day(row: Instants, since: datetime, until: datetime | None) -> bool:
    """Cuts both bounds down to their day: what was changed on the last day is lost."""
    low = since.replace(hour=0, minute=0, second=0)
    return row["updated"] >= low and (until is None or row["updated"] < until.replace(hour=0, minute=0, second=0))


SERVERS: dict[str, Server] = {
    "right": _between("updated"),
    "exclusive": lambda row, since, until: row["updated"] > since and (until is None or row["updated"] < until),
    "creation": _between("created"),
    "start": _between("start"),
    "nothing": lambda row, since, until: True,
    "empty": lambda row, since, until: False,
    "that very instant": lambda row, since, until: row["updated"] == since,
    "upper ignored": lambda row, since, until: row["updated"] >= since,
    "lower ignored": lambda row, since, until: until is None or row["updated"] <= until,
    "upper by creation": lambda row, since, until: (
        row["updated"] >= since and (until is None or row["created"] <= until)
    ),
    "by the day": _by_day,
}
HARMLESS = {"right", "exclusive"}
ROWS = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(0, 4000), st.integers(0, 9000)),
    min_size=0,
    max_size=24,
    unique_by=lambda r: r[1],
)


@pytest.mark.parametrize("name", SERVERS)
@settings(max_examples=40, deadline=None)
@given(rows=ROWS, seen=st.integers(1, 24))
def test_no_server_that_loses_rows_is_believed(name: str, rows: list[tuple[int, int, int]], seen: int) -> None:
    server = SERVERS[name]
    population: dict[str, Instants] = {
        str(n): {
            "created": BASE + timedelta(minutes=min(created, changed)),
            "updated": BASE + timedelta(minutes=changed),
            "start": BASE + timedelta(minutes=start),
        }
        for n, (created, changed, start) in enumerate(rows)
    }
    sample = dict(list(population.items())[:seen])

    def believed(*, upper: bool) -> list[bool]:
        verdicts = []
        for trial in trials(sample, "updated", with_upper=upper):
            came = {key: row for key, row in population.items() if server(row, trial.since, trial.until)}
            verdict, reason = judge(sample, came, "updated", trial, is_whole=True)
            assert name not in HARMLESS or trial.untold or verdict == "honoured", (trial, reason)
            verdicts.append(verdict == "honoured")
        return verdicts

    # The upper bound is tried only where the lower one was proven.
    if any(believed(upper=False)):
        assert name in HARMLESS | {"upper ignored", "upper by creation", "by the day"}
        if any(believed(upper=True)):
            assert name in HARMLESS


def population_of(*changed_hours: float) -> dict[str, Instants]:
    return {
        str(n): {"updated": BASE + h * HOUR, "created": BASE - n * HOUR, "start": BASE + (200 - 3 * n) * HOUR}
        for n, h in enumerate(changed_hours)
    }


def test_the_members_of_a_lists_elements_are_matched_too() -> None:
    records: list[Json] = [
        {"attributes": {"questions": [{"id": "q", "title": "Allergies?", "response": "nuts"}, {"id": "r"}]}},
        {"attributes": {"questions": {"q": "nuts"}}},
    ]
    names, plausible = CONTRACT.streams["bookings"].participant_columns, CONTRACT.plausible.columns["participants"]
    outer = match({"answers": "list"}, names, plausible, members_of(records))
    (finding,) = elements("bookings", "answers", records, outer, "answer_columns", CONTRACT)
    assert {line.key[-1]: line.value for line in finding.lines} == {
        "question_id": list(CONTRACT.streams["bookings"].answer_columns["question_id"]),
        "label": ["title"],
        "value": ["response"],
    }
    assert {line.key[:-1] for line in finding.lines} == {("streams", "bookings", "answer_columns")}
    nothing: list[Json] = [{"attributes": {"questions": [{"type": "answers", "id": "a1"}]}}, {"attributes": {}}]
    outer = match({"answers": "list"}, names, plausible, members_of(nothing))
    assert elements("bookings", "answers", nothing, outer, "answer_columns", CONTRACT) == []


def test_a_bound_cut_to_whole_days_gives_itself_away() -> None:
    sample = population_of(10, 11, 12, 35, 36, 37, 60, 61)
    verdicts = set()
    for trial in trials(sample, "updated", with_upper=True):
        came = {k: r for k, r in sample.items() if _by_day(r, trial.since, trial.until)}
        verdicts.add(judge(sample, came, "updated", trial, is_whole=True)[0])
    assert "honoured" not in verdicts


def test_a_window_that_cannot_tell_says_from_what() -> None:
    rows = {str(n): {"updated": BASE + n * HOUR, "created": BASE + n * HOUR} for n in range(12)}
    found = trials(rows, "updated", with_upper=False)
    assert found
    assert all(t.untold == ("created",) for t in found)
    verdict, reason = judge(
        rows, {k: r for k, r in rows.items() if r["updated"] >= found[0].since}, "updated", found[0], is_whole=True
    )
    assert verdict == "undecided"
    assert "created" in reason


def test_too_few_rows_are_no_trial_and_a_long_answer_no_verdict() -> None:
    assert trials(population_of(1, 2, 3), "updated", with_upper=False) == []
    sample = population_of(*range(1, 20))
    trial = trials(sample, "updated", with_upper=False)[0]
    assert judge(sample, {}, "updated", trial, is_whole=False)[0] == "undecided"
    assert judge(sample, {}, "updated", trial, is_whole=True)[0] == "different"
    assert judge(sample, sample, "updated", trial, is_whole=False)[0] == "ignored"


@pytest.mark.parametrize(
    ("values", "size"),
    [("", None), ("abc", None), ("abbc", 2), ("aab", 1), ("aabccc", 4), ("abcc", 3)],
)
def test_a_page_is_made_to_end_among_rows_of_one_instant(values: str, size: int | None) -> None:
    assert tied_size(values) == size


# ---- names -------------------------------------------------------------------------------------------------------------------


def records(**attributes: Any) -> list[dict[str, Any]]:
    return [{"type": "x", "id": "1", "attributes": attributes}]


KINDS = {"start_at": "instant", "end_at": "instant", "price": "money", "title": "text", "is_paid": "boolean"}
ALIASES = {
    "start_at": ("startTime", "start"),
    "end_at": ("endTime",),
    "price": ("price",),
    "title": ("title", "name"),
    "is_paid": ("paid",),
}
PLAUSIBLE = {"start_at": ("begins",), "price": ("amount",), "title": ("label",), "end_at": ("begins",)}


@pytest.mark.parametrize(
    ("attributes", "column", "member", "evidence"),
    [
        ({"startTime": "2026-01-01T00:00:00Z"}, "start_at", "startTime", "exact"),
        ({"start": "2026-01-01T00:00:00Z"}, "start_at", "start", "alias"),
        ({"start_time": "2026-01-01T00:00:00Z"}, "start_at", "start_time", "case-folded"),
        ({"START-AT": "2026-01-01T00:00:00Z"}, "start_at", "START-AT", "case-folded"),
        ({"begins": "2026-01-01T00:00:00+01:00"}, "start_at", "begins", "plausible"),
        ({"timing": {"start": "2026-01-01T00:00:00Z"}}, "start_at", "timing.start", "nested"),
        ({"price": {"amount": Decimal("1.5")}}, "price", "price.amount", "nested"),
        ({"deposit": {"amount": Decimal(1)}, "price": {"amount": Decimal(9)}}, "price", "price.amount", "nested"),
        ({"deposit": {"amount": Decimal(1)}}, "price", None, None),  # the amount of something else
        ({"price": {"currency": "GBP", "value": "1.50"}}, "price", "price.value", "nested"),
        ({"start": {"dateTime": "2026-01-01T00:00:00Z"}}, "start_at", "start.dateTime", "nested"),
        ({"start": 1767225600}, "start_at", None, None),  # an epoch is no instant that the sync reads
        ({"start": "2026-01-01T00:00:00"}, "start_at", None, None),  # nor is a time without a zone
        ({"paid": "no"}, "is_paid", None, None),
        ({"title": None}, "title", "title", "exact"),
    ],
)
def test_a_name_needs_evidence_and_values_that_fit(
    attributes: Any, column: str, member: str | None, evidence: str | None
) -> None:
    result = match(KINDS, ALIASES, PLAUSIBLE, members_of(records(**attributes)))
    assert next(((m.member, m.evidence) for m in result.found if m.column == column), (None, None)) == (
        member,
        evidence,
    )


def test_no_attribute_feeds_two_columns() -> None:
    result = match(KINDS, ALIASES, PLAUSIBLE, members_of(records(begins="2026-01-01T00:00:00Z")))
    assert [(m.column, m.member) for m in result.found] == [("start_at", "begins")]
    assert "end_at" in result.empty


def test_what_maps_to_nothing_and_what_has_the_wrong_form_is_told() -> None:
    result = match(
        KINDS, ALIASES, {}, members_of(records(colour="red", price="dear", account="x")), others=("account",)
    )
    assert result.unmapped == ("colour",)
    assert result.misfits == {"price": "price"}


def test_declared_types_count_where_no_value_was_seen() -> None:
    shape = Shape(
        members={
            "attributes": Shape(
                members={"startTime": Shape(frozenset({"integer"})), "title": Shape(frozenset({"string"}))}
            )
        }
    )
    result = match(KINDS, ALIASES, {}, members_of((), shape))
    assert {m.column for m in result.found} == {"title"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("filter[updatedAfter]", ["filter", "updated", "after"]),
        ("updated_since", ["updated", "since"]),
        ("page[size]", ["page", "size"]),
    ],
)
def test_parameters_are_read_in_words(name: str, words: list[str]) -> None:
    assert tokens(name) == words


# ---- places ------------------------------------------------------------------------------------------------------------------


def test_next_links_are_found_wherever_they_stand() -> None:
    assert next_places({"data": [], "links": {"next": "/x"}, "meta": {"next": "/x"}}) == ["links.next", "meta.next"]
    assert next_places({"paging": {"nextUrl": {"href": "/x"}}}) == ["paging.nextUrl"]
    assert next_places({"data": {"next": "/x"}, "links": {"next": None}}) == []
    assert next_places({"links": {"next": "bookings?page%5Bafter%5D=x%3D"}}) == ["links.next"]
    assert next_places({"links": {"next": "../v2/bookings?page=2"}}) == ["links.next"]
    assert next_places({"meta": {"next": "eyJpZCI6MX0=="}}) == []
    assert next_marks({"meta": {"next_cursor": "abc", "next": None}}) == ["meta.next_cursor"]
    assert counts({"data": [1], "meta": {"total": 3, "ok": True}}) == {"meta.total": 3}


@pytest.mark.parametrize(
    ("query", "further", "expected"),
    [
        ("page%5Bno%5D=2&size=10", "", ["page[no]"]),
        ("skip=10&size=10", "", ["skip"]),
        ("cursor=eyJpZCI6MX0", "cursor=eyJpZCI6MTF9", []),
        ("startIndex=11&size=10", "", ["startIndex"]),
        ("p=40&size=10", "p=50&size=10", ["p"]),
        ("p=7&size=10", "p=8&size=10", ["p"]),
        ("after=4711&size=10", "after=4790&size=10", []),  # an id, or a time
        ("after=4711&size=10", "", []),
        ("year=2026&p=x", "year=2026&p=y", []),
    ],
)
def test_parameters_that_number_pages_are_told_from_cursors(query: str, further: str, expected: list[str]) -> None:
    address = "https://x.test/a?"
    assert shifting(address + query, further and address + further, "size", 10) == expected


def test_an_account_is_named_by_its_values() -> None:
    rows = [
        {
            "id": "1",
            "attributes": {"shop": 7, "other": "z"},
            "relationships": {"owner": {"data": {"type": "t", "id": "a"}}},
        },
        {
            "id": "2",
            "attributes": {"shop": 8, "other": "7"},
            "relationships": {"owner": {"data": {"type": "t", "id": "7"}}},
        },
    ]
    assert account_members(rows, {"7", "8"}) == ([], ["shop"])
    assert account_members(rows, {"a", "7"}) == (["owner"], [])


def test_a_linkage_of_another_type_names_no_account() -> None:
    # Small numbers as ids are ids of many things.
    rows = [{"relationships": {"service": {"data": {"type": "services", "id": "7"}}}, "attributes": {"accountId": "7"}}]
    assert account_members(rows, {"7"}, {"accounts"}) == ([], ["accountId"])
    assert account_members(rows, {"7"}, {"services"})[0] == ["service"]


def test_rows_without_a_change_time_leave_a_filter_unproven() -> None:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    trial = Trial(now, now + timedelta(days=1), (), 1)
    sample = {"a": {"updated": now}, "b": {"updated": now - timedelta(days=3)}, "c": {}}
    returned = {"a": sample["a"]}
    assert judge(sample, returned, "updated", trial, is_whole=True)[0] == "undecided"
    del sample["c"]
    assert judge(sample, returned, "updated", trial, is_whole=True)[0] == "honoured"


@pytest.mark.parametrize(
    ("headers", "per_second"),
    [
        ({"ratelimit-policy": "100;w=60"}, 100 / 60),
        ({"ratelimit-policy": '"burst";q=50;w=10'}, 5.0),
        ({"x-ratelimit-limit": "300"}, None),
        ({"ratelimit-policy": f"100;w={'9' * 5_000}"}, None),
        ({"ratelimit-policy": f"{'9' * 400};w=60"}, None),
        ({"content-type": "x"}, None),
    ],
)
def test_rate_limits_are_read_where_their_period_is_told(headers: dict[str, str], per_second: float | None) -> None:
    text, found = rate_limit(headers)
    assert found == per_second
    assert bool(text) == any("ratelimit" in name.replace("-", "") for name in headers)


@pytest.mark.parametrize(
    "known",
    [
        {"17", "18", "19"},
        {"5f02de75eee3e55219133b83", "5f02de75eee3e55219133b94"},
        {"0E984725-C51C-4BF4-9960-E1C80E27ABA0"},
        {"booking_1"},
        {"x"},
    ],
)
def test_an_id_that_is_not_there_looks_like_those_that_are(known: set[str]) -> None:
    made = unknown_id(known)
    assert made not in known
    assert re.sub(r"\d", "0", made)[:8] in {re.sub(r"\d", "0", one)[:8] for one in known} or made in ("7654340", "x0")


# ---- whose line is whose -----------------------------------------------------------------------------------------------------

DEFAULTS = contract_values()
FOUND = [
    Line(("parameters", "page_size"), "page[limit]", "2 asked for,\n2 came"),
    Line(("abilities", "filters"), False, "not proven"),
    Line(("streams", "bookings", "queries"), [{}, {"filter[status]": "cancelled"}], "hidden"),
    Line(("streams", "bookings", "columns", "start_at"), ["starts_at"], "plausible"),
    Line(("oauth", "client_authentication"), "basic", "as the default"),
]


def test_lines_that_say_the_default_are_left_out_and_twice_is_once() -> None:
    first = lay_over(None, FOUND, DEFAULTS)
    assert "oauth" not in tomllib.loads(first.text)
    assert len(first.changes) == 4
    again = lay_over(first.text, FOUND, DEFAULTS)
    assert (again.text, again.changes, again.disagreements) == (first.text, (), ())


def test_what_connect_wrote_it_may_replace_and_take_away() -> None:
    text = lay_over(None, FOUND, DEFAULTS).text
    later = [Line(("parameters", "page_size"), "page[size]", "now"), Line(("abilities", "filters"), True, "now proven")]
    result = lay_over(text, later, DEFAULTS)
    assert {(c.key, json.dumps(c.before), c.after) for c in result.changes} == {
        ("parameters.page_size", '"page[limit]"', None),
        ("abilities.filters", "false", None),
    }
    assert tomllib.loads(result.text).get("parameters", {}) == {}


@pytest.mark.parametrize(
    "own",
    [
        '[parameters]\npage_size = "mine"\n',
        'parameters.page_size = "mine" # note\n',
        'parameters = { page_size = "mine" }\n',
        '[streams.events]\npath = "x"\n[parameters]\npage_size = "mine"\n[streams.customers]\npath = "y"\n',
    ],
)
def test_a_persons_line_stays_whatever_form_it_has(own: str) -> None:
    result = lay_over(own, FOUND, DEFAULTS)
    assert [(d.key, d.own) for d in result.disagreements] == [("parameters.page_size", "mine")]
    values = tomllib.loads(result.text)
    assert values["parameters"]["page_size"] == "mine"
    assert values["streams"]["bookings"]["queries"] == [{}, {"filter[status]": "cancelled"}]
    for name, value in tomllib.loads(own).get("streams", {}).items():
        assert values["streams"][name] == value
    again = lay_over(result.text, FOUND, DEFAULTS)
    assert (again.text, again.changes) == (result.text, ())


def test_a_line_that_was_changed_by_hand_is_the_persons_from_then_on() -> None:
    text = (
        lay_over(None, FOUND, DEFAULTS)
        .text.replace('"page[limit]"', '"page[rows]"')
        .replace("filters = false", "filters = true")
    )
    result = lay_over(text, FOUND, DEFAULTS)
    assert {d.key for d in result.disagreements} == {"parameters.page_size", "abilities.filters"}
    assert (result.text, result.changes) == (text, ())


def test_a_file_that_is_no_toml_is_refused() -> None:
    with pytest.raises(ContractError, match="not valid TOML"):
        lay_over("[[[", FOUND, DEFAULTS)
