"""Records as the wire brings them, and what became of them: for the tests of shaping.

What lives here: records and batches. What does not: what they must hold (`test_normalise`, `test_lists`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pipelines.normalise import Batch, combine, normalise
from pipelines.records import Fetched, index
from pipelines.streams import Stream
from resources.contract import Contract, load_contract
from resources.envelope import decode

Json = dict[str, Any]
NOW = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
LONDON = {"a1": "Europe/London"}
CONTRACT = load_contract()


def sent(record: Any, included: Iterable[Any] = (), fetched_at: datetime = NOW) -> Fetched:
    """A record as it comes off the wire: numbers with their digits."""
    text = json.dumps([record, list(included)], default=_number)
    record, included = decode(text.replace('"<digits>', "").replace('</digits>"', ""))
    return Fetched(record, index(included), fetched_at)


def _number(value: object) -> str:
    """JSON that Python would not write by itself: digits as they are."""
    if isinstance(value, Decimal):
        return f"<digits>{value}</digits>"
    raise TypeError(type(value))


def resource(
    kind: str, record_id: str = "x1", account: str | None = "a1", related: Json | None = None, **attributes: Any
) -> Json:
    relationships = {"account": {"data": {"type": "accounts", "id": account}}} if account else {}
    return {"type": kind, "id": record_id, "attributes": attributes, "relationships": relationships | (related or {})}


def of(
    stream: Stream,
    *records: Any,
    zones: dict[str, str] | None = None,
    default: str | None = None,
    contract: Contract = CONTRACT,
) -> Batch:
    fetched = [r if isinstance(r, Fetched) else sent(r) for r in records]
    return combine([normalise(stream, contract, fetched, LONDON if zones is None else zones, default)])


def booking(**more: Any) -> Json:
    return resource("bookings", **more)


def row(batch: Batch) -> Json:
    (only,) = batch.rows.to_dicts()
    return only


def notes(batch: Batch, kind: str = "bad_value") -> set[str]:
    return {key.path for key in batch.drift if key.kind == kind}


PARTICIPATION: Json = {
    "status": "Arrived",
    "spaces": 2,
    "totalPrice": Decimal("12.10"),
    "paid": False,
    "timezone": "America/Detroit",
    "pricePoints": [{"quantity": 1, "pricePerQuantity": Decimal("12.10"), "cancelUrl": "https://x/canary"}],
    "questions": [{"id": "q1", "label": "First visit?", "value": False}],
    "notes": "",
    "cancellationUrl": "https://x/?token=canary",
    "rescheduleUrl": "https://x/?token=canary",
}
IDENTIFIER = {"type": "customerBookings", "id": "p1"}
TO_CUSTOMER = {"customer": {"data": {"type": "customers", "id": "c1"}}}
RESOURCE_OBJECT = {**IDENTIFIER, "attributes": PARTICIPATION, "relationships": TO_CUSTOMER}
