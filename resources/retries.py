"""Whether a failed request is sent again, and after how long.

What lives here: the rules, and the values that they judge. What does not: sockets, waiting, counting (`exchange`).
Sources: RFC 9110 section 10.2.3 and RFC 6585 section 4 (Retry-After as seconds or as a date), evidence section 6.2.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

ATTEMPTS = 8
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 30.0
# A server may ask for no longer wait.
LONGEST_WAIT_S = 120.0
# A 4xx says that the request is wrong; these three say that the moment is.
RETRIED_STATUS = frozenset({408, 425, 429})


class StoppedError(Exception):
    """A wait or a request ended early because what needed it is being stopped.

    No `ProductError`: nothing that takes a failure for an answer, a problem or a reason to repeat may catch it.
    """


class TooLargeError(Exception):
    """The body of an answer passed its limit and was not read on; the same request would bring the same body, so it is not repeated."""


@dataclass
class TroubleError(Exception):
    """One failed attempt.

    `status` is None where no complete answer arrived (time-out, reset) or where its body could not be read as promised. `retry_after` and `date` are the
    answer's headers as sent, `parameters` the query parameters that its errors name. `attempts`: which attempt it was.
    """

    text: str
    status: int | None = None
    retry_after: str | None = None
    date: str | None = None
    parameters: tuple[str, ...] = field(default=(), repr=False)  # as sent, so they may repeat a secret
    attempts: int = 1

    def __str__(self) -> str:
        """The sentence that goes into messages."""
        return self.text


def retry_after_s(retry_after: str | None, date: str | None, now: datetime) -> float | None:
    """Seconds that the server asks to wait; None where it asks for nothing that can be read.

    A date is measured against the answer's own `Date`, so that a wrong local clock does not matter.
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isdecimal():
        return float(text)
    until = http_date(text)
    return None if until is None else max(0.0, (until - (http_date(date) or now)).total_seconds())


def given_up(trouble: TroubleError, now: datetime) -> str:
    """Why there is no further attempt, in a sentence."""
    asked = retry_after_s(trouble.retry_after, trouble.date, now)
    tries = "1 attempt" if trouble.attempts == 1 else f"{trouble.attempts} attempts"
    if asked is not None and asked > LONGEST_WAIT_S:
        return f"Gave up after {tries}: the API asks to wait for {asked / 60:.0f} minutes, longer than a run waits; run again then"
    return f"Gave up after {tries}"


def http_date(text: str | None) -> datetime | None:
    """An HTTP date (RFC 9110 section 5.6.7) as a UTC instant; None where there is none that can be read."""
    if text is None:
        return None
    try:
        instant = parsedate_to_datetime(text)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def may_pass(status: int) -> bool:
    """Whether an answer's status says that the same request may be answered otherwise in a while."""
    return status >= 500 or status in RETRIED_STATUS


def judge(trouble: Exception, now: datetime) -> bool | float:
    """False: do not repeat. True: repeat after the usual backoff. A number: repeat after so many seconds."""
    if not isinstance(trouble, TroubleError):
        return False
    if trouble.status is not None and not may_pass(trouble.status):
        return False
    asked = retry_after_s(trouble.retry_after, trouble.date, now)
    if asked is None:
        return True
    return asked if asked <= LONGEST_WAIT_S else False


def backoff_s(attempt: int) -> float:
    """How long to wait after a failed attempt, counted from 1: twice as long each time, and up to a second more, so that threads do not return together."""
    return min(FIRST_BACKOFF_S * 2.0 ** (attempt - 1) + random.uniform(0, 1), LONGEST_BACKOFF_S)  # noqa: S311  guards nothing
