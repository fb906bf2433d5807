"""What an answer says: its document, and the API's own words for what is wrong.

What lives here: reading one `httpx.Response`, without asking for another. What does not: requests (`exchange`), pages, decoding (`envelope`).
Sources: JSON:API 1.1 (document structure, error objects), evidence sections 5 and 7.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import MAXYEAR, datetime
from decimal import InvalidOperation

import httpx
import msgspec

from resources.envelope import Record, decoded
from resources.errors import BrokenAnswerError
from resources.retries import TroubleError, http_date

# A text of the server's without secrets, ready to be quoted.
Hide = Callable[[str], str]


def document_of(response: httpx.Response, hide: Hide) -> Record:
    """A list or single document as JSON:API promises it; `TroubleError` (to be repeated) where it is not."""
    where = f"on GET {response.request.url.path}"
    try:
        value = decoded(response.content)
    except (InvalidOperation, RecursionError) as error:
        # Deterministic, so not worth repeating.
        raise BrokenAnswerError(
            f"A body holds a number or a nesting beyond all measure {where}: {type(error).__name__}."
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        kind = response.headers.get("Content-Type", "no content type")
        raise TroubleError(f"a body that is not JSON ({hide(kind)}) {where}: {error}") from None
    if not isinstance(value, dict) or "data" not in value or "errors" in value:
        raise TroubleError(
            f"HTTP 200 without a data member {where}; it is not a JSON:API document{told_by(response, hide)}"
        )
    if not isinstance(value["data"], dict | list | None) or not isinstance(value.get("included") or [], list):
        raise TroubleError(f"data or included has the wrong form {where}")
    return value


def date_of(response: httpx.Response) -> datetime | None:
    """The time of the answer by the server's own clock; None where it tells no time that can be used."""
    date = http_date(response.headers.get("Date"))
    # Nothing can be added to an instant that near to the calendar's end.
    return None if date is None or date.year == MAXYEAR else date


def json_object(body: bytes) -> Record | None:
    """A body as a JSON object, with numbers decoded as everywhere; None where it is none, which is no error here."""
    try:
        value = decoded(body)
    except (InvalidOperation, RecursionError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None


def _errors(response: httpx.Response) -> list[Record]:
    # Gateways answer in HTML or not at all (evidence 7.8); the status alone speaks then.
    errors = (json_object(response.content) or {}).get("errors")
    return [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else []


def told_by(response: httpx.Response, hide: Hide) -> str:
    """What the API itself says is wrong: code, title, detail and source of each error object."""
    parts = []
    for error in _errors(response)[:3]:
        source = error.get("source")
        sources = source.values() if isinstance(source, dict) else ()
        words = [error.get("code"), error.get("title"), error.get("detail"), *sources]
        # Cut only after `hide`, which would not know half a secret for one.
        parts.append(", ".join(hide(str(w))[:200] for w in words if w))
    return f" ({'; '.join(parts)})" if any(parts) else ""


def named_parameters(response: httpx.Response) -> tuple[str, ...]:
    """The query parameters that its error objects name."""
    sources = [e.get("source") for e in _errors(response)]
    return tuple(s["parameter"] for s in sources if isinstance(s, dict) and isinstance(s.get("parameter"), str))
