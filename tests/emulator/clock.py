"""The world clock: the only source of `Date`, of `updated` and of token lifetimes. Real time plays no part unless it is told to run."""

import threading
import time
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ms(instant: datetime) -> int:
    """Milliseconds since 1970; exact, unlike `timestamp()`."""
    return (instant - EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """The instant of so many milliseconds since 1970, in UTC."""
    return EPOCH + timedelta(milliseconds=ms)


class Clock:
    """A clock that stands still until it is set, advanced or run."""

    def __init__(self, start: datetime = START) -> None:
        if start.tzinfo is None:
            raise ValueError("the clock needs an aware datetime")
        self._base = start.astimezone(UTC)
        self._since: float | None = None
        self._lock = threading.Lock()

    def _read(self) -> datetime:
        if self._since is None:
            return self._base
        return self._base + timedelta(seconds=time.monotonic() - self._since)

    def now(self) -> datetime:
        """The present instant of the world, in UTC."""
        with self._lock:
            return self._read()

    def ms(self) -> int:
        """The present instant in milliseconds since 1970."""
        return to_ms(self.now())

    def set(self, instant: datetime) -> None:
        """Jump to an instant, forwards or back."""
        if instant.tzinfo is None:
            raise ValueError("the clock needs an aware datetime")
        with self._lock:
            self._base = instant.astimezone(UTC)
            if self._since is not None:
                self._since = time.monotonic()

    def advance(self, by: timedelta) -> datetime:
        """Move by a span and return the new instant."""
        with self._lock:
            self._base += by
            return self._read()

    def run(self) -> None:
        """Let the clock move with real time from where it stands."""
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()

    def stop(self) -> None:
        """Stand still."""
        with self._lock:
            self._base = self._read()
            self._since = None
