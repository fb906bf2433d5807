"""What one answer says, whatever a server or a gateway sends: its document, its time, and its own words for what is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from resources.answers import date_of, document_of, json_object, named_parameters, told_by
from resources.errors import BrokenAnswerError
from resources.retries import TroubleError

DEEP = b"[" * 100_000 + b"]" * 100_000


def answer(body: bytes, **headers: str) -> httpx.Response:
    return httpx.Response(
        200, content=body, headers=headers, request=httpx.Request("GET", "https://api.test/v2/things")
    )


def errors(*errors: Any) -> httpx.Response:
    return answer(json.dumps({"errors": errors}).encode())


@pytest.mark.parametrize("body", [b'{"data":null}', b'{"data":[],"included":null}', b'{"data":{},"included":[]}'])
def test_a_document_is_read(body: bytes) -> None:
    assert document_of(answer(body), str) == json.loads(body)


@pytest.mark.parametrize("body", [b'{"data":[1e99999999999999999999]}', b'{"data":' + DEEP + b"}"])
def test_what_is_beyond_all_measure_is_not_asked_for_again(body: bytes) -> None:
    with pytest.raises(BrokenAnswerError, match="beyond all measure on GET /v2/things"):
        document_of(answer(body), str)
    assert json_object(body) is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>", r"not JSON \(text/odd\) on GET /v2/things"),
        (b"", "not JSON"),
        (b'{"data":"\xff"}', "not JSON"),
        (b'["data"]', "without a data member"),
        (b'"data"', "without a data member"),
        (b"{}", "without a data member"),
        (b'{"data":[],"errors":[{"title":"half of it"}]}', r"without a data member .* \(half of it\)"),
        (b'{"data":7}', "wrong form"),
        (b'{"data":[],"included":{"a":1}}', "wrong form"),
    ],
)
def test_what_is_no_document_is_asked_for_again(body: bytes, told: str) -> None:
    with pytest.raises(TroubleError, match=told) as trouble:
        document_of(answer(body, **{"Content-Type": "text/odd"}), str)
    assert trouble.value.status is None


@pytest.mark.parametrize(
    ("date", "instant"),
    [
        ({"Date": "Mon, 02 Mar 2026 02:00:00 GMT"}, datetime(2026, 3, 2, 2, tzinfo=UTC)),
        ({"Date": "Fri, 31 Dec 9999 23:59:59 GMT"}, None),
        ({"Date": "yesterday"}, None),
        ({}, None),
    ],
)
def test_the_time_of_an_answer_is_one_that_can_be_used(date: dict[str, str], instant: datetime | None) -> None:
    assert date_of(answer(b"", **date)) == instant


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"errors":7}', b'{"errors":[7]}', b'{"errors":[{"source":7}]}']
)
def test_what_says_nothing_is_told_by_its_status_alone(body: bytes) -> None:
    assert (told_by(answer(body), str), named_parameters(answer(body))) == ("", ())


def test_errors_are_told_in_few_words_without_secrets() -> None:
    long = {"code": 7, "title": None, "detail": "x" * 198 + "canary", "source": {"parameter": "sort", "pointer": ""}}
    found = errors(long, {"title": "b"}, {"title": "c"}, {"title": "d"})
    # Hidden before it is cut: half a secret is none that could be found.
    assert told_by(found, lambda text: text.replace("canary", "***")) == f" (7, {'x' * 198}**, sort; b; c)"


def test_only_texts_name_a_parameter() -> None:
    sources = [{"parameter": "sort"}, {"parameter": 7}, {"pointer": "/x"}, "sort", None, {"parameter": "include"}]
    assert named_parameters(errors(*({"source": source} for source in sources), "sort")) == ("sort", "include")
