"""Which failure is worth repeating and after how long: the pure rule, on tables and on whatever a header may hold."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resources.retries import (
    LONGEST_BACKOFF_S,
    LONGEST_WAIT_S,
    TroubleError,
    backoff_s,
    given_up,
    http_date,
    judge,
    retry_after_s,
)

PROPERTY = settings(derandomize=True, deadline=None, max_examples=80)
NOW = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
SERVER = datetime(2001, 1, 1, tzinfo=UTC)  # a server whose clock is quite another


def http(instant: datetime) -> str:
    return format_datetime(instant, usegmt=True)


@pytest.mark.parametrize("status", [None, 408, 425, 429, 500, 502, 503, 504, 599])
def test_the_moment_was_wrong(status: int | None) -> None:
    assert judge(TroubleError("x", status=status), NOW) is True


@pytest.mark.parametrize("status", [301, 302, 400, 401, 403, 404, 405, 406, 409, 410, 415, 422, 451, 499])
def test_the_request_was_wrong(status: int) -> None:
    assert judge(TroubleError("x", status=status), NOW) is False
    assert judge(TroubleError("x", status=status, retry_after="1"), NOW) is False


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(), AssertionError()])
def test_other_errors_are_never_repeated(error: Exception) -> None:
    assert judge(error, NOW) is False


@pytest.mark.parametrize(
    ("retry_after", "date", "waits"),
    [
        (None, None, None),
        ("0", None, 0.0),
        ("7", None, 7.0),
        (" 7 ", None, 7.0),
        (http(NOW + timedelta(seconds=30)), None, 30.0),  # no Date: the local clock is all there is
        (http(SERVER + timedelta(seconds=30)), http(SERVER), 30.0),  # the answer's own Date counts
        (http(SERVER - timedelta(seconds=30)), http(SERVER), 0.0),
        (http(NOW + timedelta(seconds=30)), "nonsense", 30.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:07 GMT", 30.0),  # the obsolete forms of RFC 9110
        ("Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:07 GMT", 30.0),
        ("-5", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None, None),
    ],
)
def test_retry_after(retry_after: str | None, date: str | None, waits: float | None) -> None:
    assert retry_after_s(retry_after, date, NOW) == waits


@pytest.mark.parametrize(
    ("retry_after", "verdict"),
    [("0", 0.0), ("120", LONGEST_WAIT_S), ("121", False), ("9" * 400, False), ("soon", True), (None, True)],
)
def test_a_server_may_ask_for_a_wait_but_not_for_any_wait(retry_after: str | None, verdict: float | bool) -> None:
    answer = judge(TroubleError("x", status=503, retry_after=retry_after), NOW)
    assert answer == verdict
    assert isinstance(answer, bool) == isinstance(verdict, bool)  # 0.0 means at once, False means never


@pytest.mark.parametrize(
    ("attempts", "retry_after", "told"),
    [
        (1, "121", "1 attempt: the API asks to wait for 2 minutes, longer than a run waits; run again then"),
        (8, "120", "8 attempts"),  # waited for as often as it was asked for
        (8, None, "8 attempts"),
    ],
)
def test_a_wait_is_called_too_long_only_where_it_is(attempts: int, retry_after: str | None, told: str) -> None:
    trouble = TroubleError("x", status=429, retry_after=retry_after, attempts=attempts)
    assert given_up(trouble, NOW) == f"Gave up after {told}"


def test_each_backoff_is_longer_than_the_one_before_up_to_a_bound() -> None:
    for attempt, least in enumerate((0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4), start=1):
        assert least <= backoff_s(attempt) <= least + 1
    assert backoff_s(100) == LONGEST_BACKOFF_S


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("Mon, 02 Mar 2026 02:00:00 GMT", NOW),
        ("Mon, 02 Mar 2026 03:00:00 +0100", NOW),
        ("Mon, 02 Mar 2026 02:00:00 -0000", NOW),
        ("Mon, 02 Mar 2026 02:00:00", NOW),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("Fri, 31 Dec 9999 23:59:59 -0100", None),
    ],
)
def test_http_date(text: str | None, instant: datetime | None) -> None:
    assert http_date(text) == instant


@pytest.mark.parametrize("zone", [" -0000", ""])
def test_a_date_without_a_zone_is_not_of_this_machines(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "America/New_York")
            time.tzset()
            assert http_date(f"Mon, 02 Mar 2026 02:00:00{zone}") == NOW
    finally:
        time.tzset()


@PROPERTY
@given(
    st.text(max_size=60)
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{1,25} \d{1,3}:\d\d:\d\d [+-]?\w{0,9}", fullmatch=True)
    | st.from_regex(r"\w{3}, \d\d (Jan|Feb|Dec) \d{1,25} \d\d:\d\d:\d\d ([+-]\d{2,12}|GMT)", fullmatch=True)
)
@example("Mon, 01 Jan 2020 00:00:00 +9999999999999999999999")
def test_no_header_can_crash_a_reader(text: str) -> None:
    instant = http_date(text)
    assert instant is None or instant.tzinfo is UTC
    waits = retry_after_s(text, text, NOW)
    assert waits is None or waits >= 0


@PROPERTY
@given(st.integers(0, 250_000_000_000))
def test_http_dates_come_back_as_they_were(seconds: int) -> None:
    whole = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert http_date(http(whole)) == whole


def test_the_sentence_is_the_text() -> None:
    assert str(TroubleError("HTTP 503 on GET /v2/x", status=503)) == "HTTP 503 on GET /v2/x"
