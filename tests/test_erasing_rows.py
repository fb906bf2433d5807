"""Members that are taken out of what is stored: single texts in each form that a page may have brought, and the rows that were made of them.

What lives here: stored rows in, stored rows out. What does not: nights, files and their bytes (`test_erasing`), which members (`test_records`).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import pytest

from pipelines.renormalise import erase_redacted
from pipelines.streams import BOOKINGS, CUSTOMERS
from resources import erasing
from resources.warehouse import Writer
from tests.commits import CONTRACT, booking, put, resource, rows

# As a page may have brought them, whose bytes are kept: other spellings, escapes, a letter that folds to two, deep inside.
SPELT = (
    '"doorCode":"CANARY"',
    '"DOOR_code":"CANARY"',
    '"d\\u006forCode":"CANARY"',
    '"pa\u00dfCode":"CANARY"',
    '"deep":[{"kept":1,"door-code":{"x":"CANARY"}}]',
)
LATE = CONTRACT.model_copy(
    update={
        "redact": CONTRACT.redact.model_copy(update={"members": (*CONTRACT.redact.members, "doorCode", "passCode")})
    }
)


def planted(writer: Writer, table: str, texts: Sequence[str]) -> None:
    """Texts in place of the members called `mark`, by its value."""
    for number, text in enumerate(texts):
        rows(writer, f"update {table} set document = replace(document, '\"mark\":{number}', '{text}')")  # noqa: S608  names of the test


@pytest.mark.parametrize("at_a_time", [1, 2, erasing.TEXTS_AT_A_TIME])
def test_a_member_leaves_every_stored_text_of_its_stream_and_no_other(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(erasing, "TEXTS_AT_A_TIME", at_a_time)
    put(writer, *(booking(f"b{n}", mark=n) for n in range(len(SPELT))), {"type": "bookings", "doorCode": "CANARY"})
    put(writer, *(resource("customers", f"c{n}", mark=n) for n in range(len(SPELT))))
    put(writer, booking("other", title='the \\"doorCode\\": of \u00fc', mark=9))
    for table in ("core.bookings", "core.customers"):
        planted(writer, table, SPELT)
    put(writer, booking("b0", updated=1), fetched=1)
    texts = "select document, content_hash from {} where starts_with({}, '{}') order by 1"
    customers = rows(writer, texts.format("core.customers", "customer_id", "c"))
    (other,) = rows(writer, texts.format("core.bookings", "booking_id", "other"))

    # All of them, the replaced version of the first, and the record that was put aside.
    assert erase_redacted(writer, BOOKINGS, LATE) == len(SPELT) + 1
    assert rows(writer, texts.format("core.customers", "customer_id", "c")) == customers
    assert rows(writer, texts.format("core.bookings", "booking_id", "other")) == [other]
    assert rows(writer, "select record from ops.quarantine") == [('{"type":"bookings"}',)]
    kept = rows(writer, "select document, content_hash from history.records")
    kept += rows(writer, texts.format("core.bookings", "booking_id", "b"))
    assert len(kept) == len(SPELT) + 1
    assert "CANARY" not in str(kept)
    for text, digest in kept:
        assert digest == blake2b(text.encode(), digest_size=16).hexdigest()
    assert erase_redacted(writer, BOOKINGS, LATE) == 0


def test_a_row_that_was_a_member_goes_and_no_other(writer: Writer) -> None:
    put(writer, resource("customers", "c1", customFields={"old": 1}))
    put(
        writer,
        resource("customers", "c1", customFields={"doorCode": 1, "size": {"door_code": "CANARY", "kept": 2}}),
        resource("customers", "c2", customFields=[{"id": "doorCode", "value": 1}]),
        fetched=1,
    )
    fields = "select customer_id, field_id, value_raw from core.customer_custom_fields order by all"
    assert rows(writer, fields)[1:] == [
        ("c1", "old", "1"),
        ("c1", "size", '{"door_code":"CANARY","kept":2}'),
        ("c2", "doorCode", "1"),
    ]
    # The document of the first, a value that was read from it, and the row that was a member. What a list names is none.
    assert erase_redacted(writer, CUSTOMERS, LATE) == 3
    assert rows(writer, fields) == [("c1", "old", "1"), ("c1", "size", '{"kept":2}'), ("c2", "doorCode", "1")]


def test_emptied_rows_are_counted_once(writer: Writer) -> None:
    put(writer, booking("b1", price=1, bookingType="x"), booking("b2", price=1), booking("b3"))
    put(writer, resource("customers", "c1", tags=["a", "b"]))
    unnamed: dict[str, list[str] | None] = {
        "bookings": ["price", "booking_type"],
        "customer_tags": None,
        "customers": [],
    }
    assert erasing.empty(writer.connection, unnamed) == 4
    assert erasing.empty(writer.connection, unnamed) == 0
    assert rows(writer, "select count(price) + count(booking_type) from core.bookings") == [(0,)]
    assert rows(writer, "select count(*) from core.customer_tags") == [(0,)]
